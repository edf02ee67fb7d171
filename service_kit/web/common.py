"""The resources that both services have: is it alive, is it ready, and how is it called."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

from flask import Blueprint, Response, current_app, request
from marshmallow import Schema, fields
from prometheus_client.exposition import choose_encoder

from service_kit.health import Health, HealthReport
from service_kit.metrics import Metrics
from service_kit.web.openapi import build_openapi, operation


@dataclass(frozen=True, slots=True)
class CommonResources:
    """What the common resources answer from."""

    health: Health
    title: str
    version: str
    metrics: Metrics | None = None


class StatusSchema(Schema):
    """The state of the service in one word."""

    status = fields.String(required=True)


class CheckSchema(Schema):
    """What one check says."""

    ok = fields.Boolean(required=True)
    detail = fields.String(required=True, allow_none=True)


class ReadinessSchema(StatusSchema):
    """What all checks say."""

    checks = fields.Dict(keys=fields.String(), values=fields.Nested(CheckSchema), required=True)
    facts = fields.Dict(keys=fields.String(), values=fields.Dict(), required=True)


def create_common_blueprint(resources: CommonResources) -> Blueprint:
    """The blueprint of /livez, /readyz, /api/v1/health, /metrics (when there are any) and /openapi.json."""
    blueprint = Blueprint("common", __name__)

    # Built by the first call, because routes may be added until then.
    @cache
    def openapi_text() -> str:
        return json.dumps(build_openapi(current_app, resources.title, resources.version), separators=(",", ":"))

    @blueprint.get("/livez")
    @operation(summary="Whether the process answers", answer=StatusSchema, tags=["health"])
    def live() -> dict[str, str]:
        return {"status": "alive"}

    @blueprint.get("/readyz")
    @operation(summary="Whether every part works (503: not every)", answer=ReadinessSchema, tags=["health"])
    def ready() -> tuple[HealthReport, int]:
        report = resources.health.report()
        return report, 200 if report["status"] == "ready" else 503

    @blueprint.get("/api/v1/health")
    @operation(summary="Whether the service is healthy", answer=StatusSchema, tags=["health"])
    def healthy() -> dict[str, str]:
        return {"status": "healthy"}

    @blueprint.get("/openapi.json")
    @operation(summary="This document", tags=["documentation"])
    def openapi() -> Response:
        return Response(openapi_text(), content_type="application/json")

    if resources.metrics is not None:
        registry = resources.metrics.registry

        @blueprint.get("/metrics")
        @operation(summary="Metrics for Prometheus", answer_type="text/plain", tags=["health"])
        def metrics() -> Response:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
            return Response(encode(registry), content_type=content_type)

    return blueprint
