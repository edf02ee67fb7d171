"""Puts the processor together: the only place that picks concrete classes. Nothing here starts anything."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flask import Flask

from processor_app.api.orders import blueprint as orders_blueprint
from processor_app.orders import Orders
from processor_app.rpc.servicer import MAX_THREADS, OrderServicer
from processor_app.settings import PREFIX, ProcessorSettings
from processor_app.streams import StreamHub
from processor_app.watch import StallWatch
from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc
from service_kit.cleanup import Cleanup
from service_kit.health import Health
from service_kit.lifecycle import Lifecycle
from service_kit.metrics import Metrics, add_common_metrics
from service_kit.ports import PortCheck, WantedPort
from service_kit.rpc.options import Pulse
from service_kit.rpc.probe import LoopbackProbe
from service_kit.rpc.server import GrpcServer
from service_kit.settings import load_settings
from service_kit.storage.contract import Store
from service_kit.storage.opening import open_store
from service_kit.version import VERSION
from service_kit.web.app import create_base_app
from service_kit.web.server import WebServer

PROJECT_FOLDER = Path(__file__).resolve().parent.parent
#: Between two runs of the cleanup; shorter with a shorter retention.
CLEANUP_S = 600.0


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor's parts."""

    settings: ProcessorSettings
    app: Flask
    store: Store
    hub: StreamHub
    orders: Orders
    grpc_server: GrpcServer
    web: WebServer
    lifecycle: Lifecycle


def build_processor(settings: ProcessorSettings) -> Processor:
    """Make and connect all parts."""
    instance_id = f"processor-{uuid.uuid4().hex[:12]}"
    store = open_store(settings.store, base_folder=PROJECT_FOLDER)
    hub = StreamHub(store)
    orders = Orders(store, hub)
    pulse = Pulse(settings.keepalive_ms)
    servicer = OrderServicer(orders, hub, instance_id=instance_id, version=VERSION, heartbeat_s=pulse.heartbeat_s)
    port = WantedPort(settings.host, settings.port, f"{PREFIX}_PORT")
    grpc_port = WantedPort(settings.host, settings.grpc_port, f"{PREFIX}_GRPC_PORT")
    grpc_server = GrpcServer(
        *grpc_port,
        add_services=[partial(order_service_pb2_grpc.add_OrderServiceServicer_to_server, servicer)],
        service_names=[wire.DESCRIPTOR.services_by_name["OrderService"].full_name],
        keepalive_ms=settings.keepalive_ms,
        max_threads=MAX_THREADS,
        before_stop=servicer.announce_stop,
    )
    probe = LoopbackProbe(lambda: f"{settings.host}:{grpc_server.port}")
    watch = StallWatch(hub, silence_s=pulse.silence_s, every_s=pulse.watch_s)
    cleanup = Cleanup(partial(orders.prune, settings.retention_s), every_s=min(CLEANUP_S, settings.retention_s / 2))
    health = Health(
        {
            "store": store.check,
            "grpc": grpc_server.check,
            "grpc-probe": probe.check,
            "watch": watch.check,
            "cleanup": cleanup.check,
        },
        facts={"cleanup": cleanup.facts},
    )
    metrics = Metrics(PREFIX.lower())
    app = create_base_app(
        __package__ or "processor_app", health=health, title="Order processor", version=VERSION, metrics=metrics
    )
    app.register_blueprint(orders_blueprint)
    app.extensions["orders"] = orders
    web = WebServer(app, *port)
    add_common_metrics(metrics, store=store, cleanup=cleanup, queue_depth=lambda: web.queue_depth)
    metrics.gauge("orders", "Orders by state.", lambda: store.counts(None), label="state")
    metrics.gauge("streams", "Open streams.", lambda: hub.stream_count)
    lifecycle = Lifecycle([PortCheck(port, grpc_port), store, watch, grpc_server, probe, cleanup, web])
    return Processor(settings, app, store, hub, orders, grpc_server, web, lifecycle)


def create_app(settings: ProcessorSettings | None = None) -> Flask:
    """The Flask app over its parts; the parts are in ``app.extensions["processor"]`` and not started."""
    parts = build_processor(settings or load_settings(ProcessorSettings, PREFIX))
    parts.app.extensions["processor"] = parts
    return parts.app
