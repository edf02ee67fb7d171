"""Puts the requestor together: the only place that picks concrete classes. Nothing here starts anything."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flask import Flask

from requestor_app.api.orders import blueprint as orders_blueprint
from requestor_app.orders import OUTBOX, Orders
from requestor_app.outbox_limit import OutboxLimit
from requestor_app.peers import TOPIC as PEER
from requestor_app.peers import Peers
from requestor_app.processor_client import Trunk
from requestor_app.recovery import Recovery
from requestor_app.settings import PREFIX, RequestorSettings
from requestor_app.supervisor import Supervisor
from requestor_app.tracking import OrderTracking
from service_kit.change import Ref
from service_kit.cleanup import Cleanup
from service_kit.health import Health
from service_kit.lease import InstanceLease
from service_kit.lifecycle import Lifecycle
from service_kit.metrics import Metrics, add_common_metrics
from service_kit.ports import PortCheck, WantedPort
from service_kit.settings import load_settings
from service_kit.storage.commands import store_commands
from service_kit.storage.contract import Store
from service_kit.storage.opening import hints_of, open_store
from service_kit.version import VERSION
from service_kit.web.app import create_base_app
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
    """Make and connect all parts."""
    instance_id = f"requestor-{uuid.uuid4().hex[:12]}"
    store = open_store(settings.store, base_folder=PROJECT_FOLDER, prefix=PREFIX.lower())
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
    peers = Peers(tracking, hints, instance_id=instance_id)
    supervisor = Supervisor(
        store,
        tracking,
        lease,
        limit,
        instance_id=instance_id,
        targets=settings.processors,
        on_round=peers.tell if store.is_shared else _nothing,
    )
    recovery = Recovery(store, tracking, supervisor, instance_id=instance_id)
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
        )
        for number, link in enumerate(supervisor.links, start=1)
    ]
    orders = Orders(store, tracking, supervisor, limit, peers=peers, hints=hints, instance_id=instance_id)
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
    metrics = Metrics(PREFIX.lower())
    app = create_base_app(
        __package__ or "requestor_app", health=health, title="Order requestor", version=VERSION, metrics=metrics
    )
    app.register_blueprint(orders_blueprint)
    app.extensions["orders"] = orders
    app.cli.add_command(store_commands(base_folder=PROJECT_FOLDER, prefix=PREFIX.lower()))
    port = WantedPort(settings.host, settings.port, f"{PREFIX}_PORT")
    web = WebServer(app, *port)
    add_common_metrics(metrics, store=store, cleanup=cleanup, queue_depth=lambda: web.queue_depth)
    metrics.gauge("orders", "Orders by state.", lambda: store.counts(None), label="state")
    metrics.gauge("streams", "Streams by state.", tracking.counts, label="state")
    metrics.counter("duplicates_refused", "Initiates of orders that were live.", lambda: orders.duplicates_refused)
    lifecycle = Lifecycle([PortCheck(port), store, hints, lease, recovery, supervisor, *trunks, cleanup, web])
    return Requestor(settings, app, store, lease, tracking, supervisor, orders, web, lifecycle)


def _nothing() -> None:
    """What an instance without peers has to tell."""


def create_app(settings: RequestorSettings | None = None) -> Flask:
    """The Flask app over its parts; the parts are in ``app.extensions["requestor"]`` and not started."""
    parts = build_requestor(settings or load_settings(RequestorSettings, PREFIX))
    parts.app.extensions["requestor"] = parts
    return parts.app
