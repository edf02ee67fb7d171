"""The resources that both services have: is it alive, is it ready, and what are its figures."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, request
from marshmallow import fields
from prometheus_client.exposition import choose_encoder

from service_kit.access.model import Scope
from service_kit.health import Health, HealthReport
from service_kit.metrics import Metrics
from service_kit.web.guard import optional_principal, sees_whole
from service_kit.web.openapi import operation
from service_kit.web.schemas import AnswerSchema


@dataclass(frozen=True, slots=True)
class CommonResources:
    """What the common resources answer from."""

    health: Health
    metrics: Metrics | None = None


class StatusSchema(AnswerSchema):
    """The state of the service in one word."""

    status = fields.String(required=True)


class CheckSchema(AnswerSchema):
    """What one check says."""

    ok = fields.Boolean(required=True)
    detail = fields.String(required=True, allow_none=True)


class ReadinessSchema(StatusSchema):
    """What all checks say; where keys are needed, only to who may see the whole service."""

    checks = fields.Dict(keys=fields.String(), values=fields.Nested(CheckSchema))
    facts = fields.Dict(keys=fields.String(), values=fields.Dict())


def create_common_blueprint(resources: CommonResources) -> Blueprint:
    """The blueprint of /livez, /readyz, /api/v1/health and, when there are any, /metrics."""
    blueprint = Blueprint("common", __name__)

    @blueprint.get("/livez")
    @operation(summary="Whether the process answers", answer=StatusSchema, tags=["health"], public=True)
    def live() -> dict[str, str]:
        return {"status": "alive"}

    @blueprint.get("/readyz")
    @operation(
        summary="Whether every part works",
        answer=ReadinessSchema,
        answers={503: "Not every part works"},
        tags=["health"],
        public=True,
    )
    def ready() -> tuple[HealthReport | dict[str, str], int]:
        report = resources.health.report()
        status = 200 if report["status"] == "ready" else 503
        return (report if sees_whole(optional_principal()) else {"status": report["status"]}), status

    @blueprint.get("/api/v1/health")
    @operation(summary="Whether the service is healthy", answer=StatusSchema, tags=["health"], public=True)
    def healthy() -> dict[str, str]:
        return {"status": "healthy"}

    if resources.metrics is not None:
        registry = resources.metrics.registry

        @blueprint.get("/metrics")
        @operation(
            summary="Metrics for Prometheus", answer_type="text/plain", tags=["health"], scope=Scope.OPERATE, whole=True
        )
        def metrics() -> Response:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
            return Response(encode(registry), content_type=content_type)

    return blueprint
