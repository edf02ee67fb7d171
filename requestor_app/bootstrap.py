"""Puts the requestor together: the only place that picks concrete classes. Nothing here starts anything."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flask import Flask

from requestor_app.api.orders import blueprint as orders_blueprint
from requestor_app.console.views import blueprint as console_blueprint
from requestor_app.domain import SET_ASIDE, OrderState
from requestor_app.exposure import refusals, tls_of
from requestor_app.live_limit import LiveLimit
from requestor_app.measures import RequestorMeasures
from requestor_app.orders import OUTBOX, Orders
from requestor_app.outbox_limit import OutboxLimit
from requestor_app.overview import Overview
from requestor_app.peers import TOPIC as PEER
from requestor_app.peers import Peers
from requestor_app.processor_client import Trunk
from requestor_app.recovery import Recovery
from requestor_app.settings import PREFIX, TITLE, RequestorSettings
from requestor_app.supervisor import Supervisor
from requestor_app.tracking import OrderTracking
from service_kit.access.opening import open_access
from service_kit.change import Ref
from service_kit.cleanup import Cleanup
from service_kit.exposure import refuse
from service_kit.health import Health
from service_kit.lease import InstanceLease
from service_kit.lifecycle import Lifecycle
from service_kit.metrics import (
    Metrics,
    add_common_metrics,
    add_gate_metrics,
    add_order_metrics,
    add_outbox_metrics,
)
from service_kit.otel import open_spans
from service_kit.ports import PortCheck, WantedPort
from service_kit.samples import Sampler
from service_kit.settings import load_settings
from service_kit.storage.contract import Store
from service_kit.storage.opening import budget_of, hints_of, open_store
from service_kit.version import VERSION
from service_kit.web.app import create_base_app
from service_kit.web.console.polls import PollAnswers
from service_kit.web.meter import Meter
from service_kit.web.server import WebServer

PROJECT_FOLDER = Path(__file__).resolve().parent.parent
#: Between two runs of the cleanup; shorter with a shorter retention.
CLEANUP_S = 600.0
#: The topic of hints that an instance has taken its lease, or given it back.
CAME_OR_WENT = "came-or-went"


@dataclass(frozen=True, slots=True)
class Requestor:
    """The requestor's parts."""

    settings: RequestorSettings
    app: Flask
    store: Store
    lease: InstanceLease
    tracking: OrderTracking
    supervisor: Supervisor
    orders: Orders
    web: WebServer
    lifecycle: Lifecycle


def build_requestor(settings: RequestorSettings) -> Requestor:
    """Make and connect all parts. Raises `StartRefused` when others could reach what is not protected."""
    refuse(refusals(settings))
    tls = tls_of(settings)
    instance_id = f"requestor-{uuid.uuid4().hex[:12]}"
    spans = open_spans(
        settings.otlp_endpoint, service="requestor", instance_id=instance_id, variable=f"{PREFIX}_OTLP_ENDPOINT"
    )
    store = open_store(settings.store, base_folder=PROJECT_FOLDER, prefix=PREFIX.lower())
    access = open_access(
        settings.store, base_folder=PROJECT_FOLDER, prefix=PREFIX.lower(), is_needed=settings.require_keys
    )
    hints = hints_of(store)
    tracking = OrderTracking()
    lease = InstanceLease(
        store,
        instance_id=instance_id,
        lease_s=settings.lease_s,
        on_change=lambda: hints.send(CAME_OR_WENT, [instance_id]),
        on_regain=tracking.doubt_all,
    )
    limit = OutboxLimit(store)
    live = LiveLimit(store, in_all=settings.max_live_orders, per_tenant=settings.max_live_orders_per_tenant)
    meter = Meter(settings, shared=budget_of(store))
    measures = RequestorMeasures()
    peers = Peers(tracking, hints, instance_id=instance_id)
    supervisor = Supervisor(
        store,
        tracking,
        lease,
        limit,
        measures,
        live=live,
        instance_id=instance_id,
        targets=settings.processors,
        on_round=peers.tell if store.is_shared else _nothing,
    )
    recovery = Recovery(store, tracking, supervisor, measures, instance_id=instance_id)
    hints.listen(CAME_OR_WENT, lambda _: recovery.look_now())
    hints.listen(OUTBOX, lambda refs: recovery.nudge([Ref(*ref) for ref in refs]))
    hints.listen(PEER, peers.hear)
    trunks = [
        Trunk(
            link.target,
            link,
            instance_id=instance_id,
            version=VERSION,
            keepalive_ms=settings.keepalive_ms,
            name="trunk" if number == 1 else f"trunk-{number}",
            tls=tls,
        )
        for number, link in enumerate(supervisor.links, start=1)
    ]
    orders = Orders(
        store, tracking, supervisor, limit, measures, live=live, peers=peers, hints=hints, instance_id=instance_id
    )
    cleanup = Cleanup(partial(orders.purge, settings.retention_s), every_s=min(CLEANUP_S, settings.retention_s / 2))
    health = Health(
        {
            "store": store.check,
            "hints": hints.check,
            "lease": lease.check,
            "recovery": recovery.check,
            "supervisor": supervisor.check,
            **{trunk.name: trunk.check for trunk in trunks},
            "cleanup": cleanup.check,
        },
        facts={"store": store.facts, "cleanup": cleanup.facts},
    )
    for component in access.components:
        health.add(component.name, component.check)
    metrics = Metrics(PREFIX.lower())
    app = create_base_app(
        __package__ or "requestor_app",
        health=health,
        title=TITLE,
        version=VERSION,
        metrics=metrics,
        spans=spans,
        access=access,
        meter=meter,
    )
    app.register_blueprint(orders_blueprint)
    app.register_blueprint(console_blueprint)
    overview = Overview(store, tracking, orders, supervisor, instance_id=instance_id)
    sampler = Sampler(overview.sample)
    app.extensions |= {"orders": orders, "overview": overview, "samples": sampler, "polls": PollAnswers()}
    port = WantedPort(settings.host, settings.port, f"{PREFIX}_PORT")
    web = WebServer(
        app,
        *port,
        connection_limit=settings.max_connections,
        gathers=not store.is_shared,
        trusted_proxies=settings.trusted_proxies,
        meter=meter,
    )
    add_common_metrics(metrics, store=store, cleanup=cleanup, health=health, queue_depth=lambda: web.queue_depth)
    add_gate_metrics(metrics, web.gate.refused, web.shed, web.cut, meter.limited)
    add_order_metrics(metrics, store, states=OrderState)
    add_outbox_metrics(metrics, store, states=("pending", SET_ASIDE), to_be_sent=("pending",))
    _add_metrics(metrics, measures, orders, tracking, supervisor)
    lifecycle = Lifecycle(
        [
            PortCheck(port),
            *([spans] if spans else []),
            store,
            *access.components,
            hints,
            lease,
            recovery,
            supervisor,
            *trunks,
            cleanup,
            sampler,
            web,
        ]
    )
    return Requestor(settings, app, store, lease, tracking, supervisor, orders, web, lifecycle)


def _nothing() -> None:
    """What an instance without peers has to tell."""


def _add_metrics(
    metrics: Metrics,
    measures: RequestorMeasures,
    orders: Orders,
    tracking: OrderTracking,
    supervisor: Supervisor,
) -> None:
    metrics.gauge("streams", "Streams of this instance by state.", tracking.counts, labels=["state"])
    metrics.gauge(
        "processor_connected", "1 while a processor is connected.", lambda: supervisor.check_processor() is None
    )
    metrics.gauge(
        "processor_links",
        "Processors by whether this instance is connected to them.",
        supervisor.link_counts,
        labels=["state"],
    )
    metrics.counter("duplicates_refused", "Initiates of orders that were live.", orders.duplicates_refused)
    metrics.counter("inputs_accepted", "Orders, follow-ups and closes of buyers that were kept.", measures.accepted)
    metrics.counter("inputs_relayed", "Follow-ups and closes that the processor has taken.", measures.relayed)
    metrics.counter("inputs_set_aside", "Follow-ups and closes that the processor never takes.", measures.set_aside)
    metrics.counter("streams_refused", "Streams that the processor did not open.", measures.refused_streams)
    metrics.counter("trunk_losses", "How often the processor was lost.", measures.lost_trunks)
    metrics.counter("takeovers", "Unfinished orders taken over from an instance that was gone.", measures.takeovers)
    metrics.counter("takeover_seconds", "Time spent in taking orders over.", measures.takeover_seconds)
    metrics.histogram(
        "stream_open_duration_seconds", "From asking the processor for a stream until it is open.", measures.open_times
    )
    metrics.histogram(
        "trunk_apply_duration_seconds",
        "From the arrival of a message of the processor until it is on disk.",
        measures.apply_times,
    )


def create_app(settings: RequestorSettings | None = None) -> Flask:
    """The Flask app over its parts; the parts are in ``app.extensions["requestor"]`` and not started."""
    parts = build_requestor(settings or load_settings(RequestorSettings, PREFIX))
    parts.app.extensions["requestor"] = parts
    return parts.app
