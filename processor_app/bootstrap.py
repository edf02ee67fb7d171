"""Puts the processor together: the only place that picks concrete classes. Nothing here starts anything."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask

from processor_app.api.deliveries import blueprint as deliveries_blueprint
from processor_app.api.orders import blueprint as orders_blueprint
from processor_app.api.sellers import blueprint as sellers_blueprint
from processor_app.console.views import blueprint as console_blueprint
from processor_app.delivery.backlog import Backlog
from processor_app.delivery.channel import Channel
from processor_app.delivery.clerk import Clerk
from processor_app.delivery.courier import Courier
from processor_app.delivery.deliveries import Deliveries
from processor_app.delivery.delivery import DeliveryState
from processor_app.delivery.directory import SellerDirectory
from processor_app.delivery.dispatcher import COMPARE_S, COMPARE_SHARED_S, Dispatcher
from processor_app.delivery.email_channel import EmailChannel, MailCarrier
from processor_app.delivery.mail_files import MailFolder
from processor_app.delivery.mail_message import MailWriter
from processor_app.delivery.measures import DeliveryMeasures
from processor_app.delivery.retries import RetrySchedule
from processor_app.delivery.routes import RouteFinder
from processor_app.delivery.smtp import SmtpCarrier
from processor_app.delivery.webhook import WebhookChannel
from processor_app.domain import OrderState
from processor_app.exposure import grpc_port_of, refusals, tls_of
from processor_app.measures import InputMeasures
from processor_app.orders import Orders
from processor_app.overview import Overview
from processor_app.patrol import Patrol
from processor_app.replies.desk import ReplyDesk
from processor_app.replies.links import ReplyLinks, SecretFile
from processor_app.replies.page import blueprint as replies_blueprint
from processor_app.rpc.servicer import ENDLESS, MAX_THREADS, OrderServicer
from processor_app.settings import PREFIX, TITLE, ProcessorSettings
from processor_app.streams import GROWN, MOVED, StreamHub
from processor_app.watch import StallWatch
from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc
from service_kit.access.opening import open_access
from service_kit.change import ACTIVE_STATES, Ref
from service_kit.cleanup import Cleanup
from service_kit.errors import StartRefused
from service_kit.exposure import refuse
from service_kit.health import Health
from service_kit.hints import Hints
from service_kit.lease import InstanceLease
from service_kit.lifecycle import Component, Lifecycle
from service_kit.members import Members
from service_kit.metrics import Metrics, add_common_metrics, add_gate_metrics, add_order_metrics, add_outbox_metrics
from service_kit.otel import open_spans
from service_kit.ports import PortCheck, WantedPort
from service_kit.rpc.options import Pulse
from service_kit.rpc.peers import PeerInterceptor
from service_kit.rpc.probe import LoopbackProbe
from service_kit.rpc.server import GrpcServer, TlsDoor
from service_kit.samples import Sampler
from service_kit.settings import load_settings
from service_kit.storage.contract import Store
from service_kit.storage.opening import budget_of, folder_beside, hints_of, open_store
from service_kit.version import VERSION
from service_kit.web.app import create_base_app
from service_kit.web.console.polls import PollAnswers
from service_kit.web.meter import Meter
from service_kit.web.server import WebServer

PROJECT_FOLDER = Path(__file__).resolve().parent.parent
#: Between two runs of the cleanup; shorter with a shorter retention.
CLEANUP_S = 600.0
#: An attempt belongs to its worker for longer than it may take, since its claim and its outcome are written too.
LEASE_STRETCH, LEASE_MARGIN_S = 1.25, 1.0
#: How long the others wait for a processor that says nothing more until they send its deliveries.
LEASE_S = 15.0
#: Topics of hints: new deliveries that another processor sends; a seller's entry; a processor came or went.
DELIVERIES, SELLER, CAME_OR_WENT = "deliveries", "seller", "came-or-went"


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor's parts."""

    settings: ProcessorSettings
    app: Flask
    store: Store
    hub: StreamHub
    orders: Orders
    sellers: SellerDirectory
    deliveries: Deliveries
    dispatcher: Dispatcher
    grpc_server: GrpcServer
    web: WebServer
    lifecycle: Lifecycle


def build_processor(settings: ProcessorSettings, channels: Sequence[Channel] | None = None) -> Processor:
    """Make and connect all parts. ``channels`` take the place of those that the settings describe.

    Raises `StartRefused` when others could reach what is not protected.
    """
    refuse(refusals(settings))
    instance_id = f"processor-{uuid.uuid4().hex[:12]}"
    spans = open_spans(
        settings.otlp_endpoint, service="processor", instance_id=instance_id, variable=f"{PREFIX}_OTLP_ENDPOINT"
    )
    store = open_store(settings.store, base_folder=PROJECT_FOLDER, prefix=PREFIX.lower())
    if store.is_shared and not settings.link_secret:
        raise StartRefused(
            f"{PREFIX}_LINK_SECRET must be set, to the same at every processor: reply links must be good at each of "
            "those that share the store."
        )
    folder = folder_beside(settings.store, base_folder=PROJECT_FOLDER)
    access = open_access(
        settings.store, base_folder=PROJECT_FOLDER, prefix=PREFIX.lower(), is_needed=settings.require_keys
    )
    meter = Meter(settings, shared=budget_of(store))
    hints = hints_of(store)
    holder = instance_id if store.is_shared else ""
    hub = StreamHub(store, holder=holder, hints=hints)
    secret_file = SecretFile(folder / "link-secret")
    links = ReplyLinks(settings.public_url, lambda: settings.link_secret or secret_file.read(), settings.reply_link_s)
    if channels is None:
        channels = _channels(settings, folder)
    measures = DeliveryMeasures(spans)
    members = Members(store, instance_id=instance_id)
    delivery = _build_delivery(
        settings, store, hub, channels=channels, links=links, members=members, hints=hints, measures=measures
    )
    members.follow(delivery.backlog.regroup)
    orders = Orders(store, hub, delivery.routes, delivery.backlog, InputMeasures(spans), holder=holder)
    _listen(hints, hub, members, delivery)
    pulse = Pulse(settings.keepalive_ms)
    servicer = OrderServicer(orders, hub, instance_id=instance_id, version=VERSION, heartbeat_s=pulse.heartbeat_s)
    port = WantedPort(settings.host, settings.port, f"{PREFIX}_PORT")
    grpc_server = _grpc_server(settings, servicer)
    probe = LoopbackProbe(grpc_server.probe_call)
    watch = StallWatch(hub, silence_s=pulse.silence_s, every_s=pulse.watch_s)
    cleanup = Cleanup(
        lambda limit: orders.prune(settings.retention_s, limit) + delivery.sellers.prune(settings.retention_s, limit),
        every_s=min(CLEANUP_S, settings.retention_s / 2),
    )
    health = Health(
        {
            "store": store.check,
            "grpc": grpc_server.check,
            "grpc-probe": probe.check,
            "watch": watch.check,
            "cleanup": cleanup.check,
            "dispatcher": delivery.dispatcher.check,
        },
        facts={"store": store.facts, "cleanup": cleanup.facts, "dispatcher": delivery.dispatcher.facts},
    )
    sharing = _sharing(store, hub, members, hints, instance_id)
    for component in (*access.components, *sharing):
        health.add(component.name, component.check)
    metrics = Metrics(PREFIX.lower())
    app = create_base_app(
        __package__ or "processor_app",
        health=health,
        title=TITLE,
        version=VERSION,
        metrics=metrics,
        spans=spans,
        access=access,
        meter=meter,
    )
    for blueprint in (
        orders_blueprint,
        sellers_blueprint,
        deliveries_blueprint,
        replies_blueprint,
        console_blueprint,
    ):
        app.register_blueprint(blueprint)
    overview = Overview(store, hub, delivery.dispatcher)
    sampler = Sampler(overview.sample)
    app.extensions |= {"orders": orders, "sellers": delivery.sellers, "deliveries": delivery.deliveries}
    app.extensions |= {"overview": overview, "samples": sampler, "polls": PollAnswers()}
    app.extensions["reply_desk"] = ReplyDesk(store, orders, links)
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
    add_outbox_metrics(metrics, store, states=DeliveryState, to_be_sent=(DeliveryState.WAITING, *ACTIVE_STATES))
    _add_metrics(metrics, orders.measures, delivery, hub, grpc_server)
    secret_files = [] if settings.link_secret else [secret_file]
    before: list[Component] = [
        PortCheck(port, grpc_port_of(settings)),
        *([spans] if spans else []),
        store,
        *access.components,
        *secret_files,
        *sharing,
    ]
    lifecycle = Lifecycle([*before, delivery.dispatcher, watch, grpc_server, probe, cleanup, sampler, web])
    return Processor(
        settings=settings,
        app=app,
        store=store,
        hub=hub,
        orders=orders,
        sellers=delivery.sellers,
        deliveries=delivery.deliveries,
        dispatcher=delivery.dispatcher,
        grpc_server=grpc_server,
        web=web,
        lifecycle=lifecycle,
    )


def _grpc_server(settings: ProcessorSettings, servicer: OrderServicer) -> GrpcServer:
    files = tls_of(settings)
    return GrpcServer(
        *grpc_port_of(settings),
        add_services=[partial(order_service_pb2_grpc.add_OrderServiceServicer_to_server, servicer)],
        service_names=[wire.DESCRIPTOR.services_by_name["OrderService"].full_name],
        keepalive_ms=settings.keepalive_ms,
        max_threads=MAX_THREADS,
        endless=ENDLESS,
        before_stop=servicer.announce_stop,
        door=TlsDoor(files, PeerInterceptor(settings.tls_peers)) if files else None,
    )


def _sharing(store: Store, hub: StreamHub, members: Members, hints: Hints, instance_id: str) -> tuple[Component, ...]:
    """What a processor needs beside others over the same store."""
    if not store.is_shared:
        return ()
    lease = InstanceLease(
        store, instance_id=instance_id, lease_s=LEASE_S, on_change=lambda: hints.send(CAME_OR_WENT, [instance_id])
    )
    return hints, lease, members, Patrol(hub)


def _listen(hints: Hints, hub: StreamHub, members: Members, delivery: _Delivery) -> None:
    """Follow the hints of other processors over the same store."""

    def deliver(refs: Sequence[Any]) -> None:
        delivery.backlog.look_again(ref for ref in _refs(refs) if members.is_mine(ref))

    def look_up(sellers: Sequence[Any]) -> None:
        for tenant, seller_id in sellers:
            delivery.sellers.changed_elsewhere(tenant, seller_id)
            delivery.backlog.seller_changed(tenant, seller_id)

    hints.listen(GROWN, lambda refs: hub.wake(_refs(refs)))
    hints.listen(MOVED, lambda refs: hub.compare(_refs(refs)))
    hints.listen(CAME_OR_WENT, lambda _: members.look_now())
    hints.listen(DELIVERIES, deliver)
    hints.listen(SELLER, look_up)


def _refs(items: Sequence[Any]) -> list[Ref]:
    return [Ref(*item) for item in items]


@dataclass(frozen=True, slots=True)
class _Delivery:
    """What brings deliveries to sellers."""

    backlog: Backlog
    routes: RouteFinder
    sellers: SellerDirectory
    deliveries: Deliveries
    dispatcher: Dispatcher
    measures: DeliveryMeasures


def _build_delivery(
    settings: ProcessorSettings,
    store: Store,
    hub: StreamHub,
    *,
    channels: Sequence[Channel],
    links: ReplyLinks,
    members: Members,
    hints: Hints,
    measures: DeliveryMeasures,
) -> _Delivery:
    by_name = {channel.name: channel for channel in channels}
    schedule = RetrySchedule(settings.retry_schedule_s)
    backlog = Backlog(
        schedule,
        places=settings.delivery_threads,
        is_mine=members.is_mine,
        tell=lambda ref: hints.send(DELIVERIES, [ref]),
    )

    def announce(tenant: str, seller_id: str) -> None:
        backlog.seller_changed(tenant, seller_id)
        hints.send(SELLER, [(tenant, seller_id)])

    sellers = SellerDirectory(store, announce=announce)
    routes = RouteFinder(sellers, by_name)
    mail_timeout_s = 0.0 if settings.smtp_url is None else settings.smtp_url.timeout_s
    timeout_s = max(settings.webhook_timeout_s, mail_timeout_s)
    courier = Courier(
        store,
        hub,
        sellers,
        backlog,
        by_name,
        schedule=schedule,
        lease_s=timeout_s * LEASE_STRETCH + LEASE_MARGIN_S,
        reply_url=links.url_of,
        measures=measures,
    )
    dispatcher = Dispatcher(
        backlog,
        Clerk(store, hub, routes, backlog, is_mine=members.is_mine),
        courier,
        places=settings.delivery_threads,
        compare_s=COMPARE_SHARED_S if store.is_shared else COMPARE_S,
    )
    return _Delivery(backlog, routes, sellers, Deliveries(store, hub, backlog), dispatcher, measures)


def _add_metrics(
    metrics: Metrics, inputs: InputMeasures, delivery: _Delivery, hub: StreamHub, grpc_server: GrpcServer
) -> None:
    metrics.gauge("streams", "Open streams.", lambda: hub.stream_count)
    metrics.gauge(
        "calls", "Calls that carry streams: a trunk of each requestor, and single ones.", lambda: len(hub.outlets())
    )
    metrics.counter("inputs_taken", "What requestors handed over and was new.", inputs.taken)
    metrics.counter(
        "inputs_refused", "What requestors handed over and was refused; fenced: by a stale owner.", inputs.refused
    )
    metrics.histogram(
        "trunk_take_duration_seconds",
        "From the arrival of a requestor's message until it is on disk and answered.",
        inputs.trunk_times,
    )
    metrics.counter("calls_cut", "Unary gRPC calls whose answer was not taken in time.", grpc_server.deadlines.cut)
    metrics.histogram("rpc_duration_seconds", "Time of each unary gRPC call.", grpc_server.call_times)
    metrics.counter("grpc_peers_refused", "gRPC calls of peers that are not allowed.", grpc_server.refused_peers)
    metrics.gauge(
        "grpc_certificate_expiry_timestamp_seconds",
        "When the gRPC server's certificate ends; 0 without TLS.",
        grpc_server.certificate_expires_at_s,
    )
    measures, dispatcher = delivery.measures, delivery.dispatcher
    metrics.counter("delivery_attempts", "Attempts by what became of them.", measures.attempts)
    metrics.histogram("delivery_attempt_duration_seconds", "Time of each attempt.", measures.attempt_times)
    metrics.histogram(
        "delivery_duration_seconds", "From an accepted order or note until the seller has it.", measures.delivery_times
    )
    metrics.counter("deliveries_ended", "Deliveries that were delivered, or given up.", measures.ended)
    metrics.gauge("deliveries_running", "Attempts that run.", lambda: dispatcher.facts()["running"])
    metrics.gauge(
        "sellers_slow", "Sellers' channels that are slow just now.", lambda: dispatcher.facts()["slow_sellers"]
    )
    metrics.gauge(
        "breakers_open",
        "Sellers' channels that are left alone for a while.",
        lambda: dispatcher.facts()["open_breakers"],
    )


def _channels(settings: ProcessorSettings, folder: Path) -> list[Channel]:
    server = settings.smtp_url
    carrier: MailCarrier = MailFolder(folder / "outbox")
    if server is not None:
        carrier = SmtpCarrier(server, own_name=settings.mail_from.domain)
    return [
        EmailChannel(MailWriter(settings.mail_from), carrier),
        WebhookChannel(settings.webhook_allow_networks, timeout_s=settings.webhook_timeout_s),
    ]


def create_app(settings: ProcessorSettings | None = None) -> Flask:
    """The Flask app over its parts; the parts are in ``app.extensions["processor"]`` and not started."""
    parts = build_processor(settings or load_settings(ProcessorSettings, PREFIX))
    parts.app.extensions["processor"] = parts
    return parts.app
