"""The requestor's settings: environment variables that begin with ``REQUESTOR_``."""

from __future__ import annotations

from dataclasses import dataclass

from service_kit.door_settings import DoorSettings
from service_kit.settings import (
    choice,
    comma_list,
    flag,
    host_name,
    integer,
    milliseconds,
    port_number,
    seconds,
    setting,
    text,
    url,
)

PREFIX = "REQUESTOR"
#: What the service calls itself.
TITLE = "Order requestor"


@dataclass(frozen=True, slots=True)
class RequestorSettings(DoorSettings):
    """What the requestor reads from its environment, once, at start."""

    host: str = setting("127.0.0.1", parse=host_name(), help="The address that the REST interface listens on.")
    port: int = setting(8004, parse=port_number(), help="The port of the REST interface.")
    store: str = setting(
        "sqlite:///data/requestor.db",
        parse=text(),
        may_hold_login=True,
        help="The store: a file (a relative path stands under the project folder), or a Redis that several share.",
    )
    processors: tuple[str, ...] = setting(
        ("127.0.0.1:50052",),
        parse=comma_list("127.0.0.1:50052"),
        help="The processors' gRPC addresses; streams are spread over all of them, which must share one store.",
    )
    tls_cert: str = setting(
        "", parse=text(), help="The certificate (PEM) that the requestor shows to processors; read at each connect."
    )
    tls_key: str = setting("", parse=text(), help="The key (PEM) of that certificate.")
    tls_ca: str = setting("", parse=text(), help="The authorities (PEM) whose certificates processors must show.")
    lease_s: float = setting(
        15.0, parse=seconds(3, 3600), help="How long the instance may act without renewing its lease, in seconds."
    )
    keepalive_ms: int = setting(
        5_000,
        parse=milliseconds(250, 60_000),
        help="The period of the gRPC keepalive pings, in milliseconds; signs of life are sent after two fifths of it, "
        "and a peer that is silent for twice as long is cut. The same at both services.",
    )
    retention_s: float = setting(
        30 * 86_400.0, parse=seconds(1), help="How long an order is kept after its end, in seconds."
    )
    max_live_orders: int = setting(
        200_000, parse=integer(0, 100_000_000, 200_000), help="How many orders may be live in all; 0 is no limit."
    )
    max_live_orders_per_tenant: int = setting(
        0, parse=integer(0, 100_000_000, 50_000), help="How many orders of one tenant may be live; 0 is no limit."
    )
    one_core: bool = setting(
        True,
        parse=flag(),
        help="Whether all threads stay on one core, the least busy one (Linux), which makes them a fifth faster.",
    )
    otlp_endpoint: str = setting(
        "",
        parse=url("http", "https", example="http://127.0.0.1:4318/v1/traces"),
        help="Where spans are sent by OpenTelemetry (OTLP over HTTP); needs requirements-otel.txt.",
    )
    log_format: str = setting("console", parse=choice("console", "json"), help="How log lines look.")
    log_level: str = setting(
        "INFO", parse=choice("DEBUG", "INFO", "WARNING", "ERROR"), help="The least level that is logged."
    )
