"""The processor's settings: environment variables that begin with ``PROCESSOR_``."""

from __future__ import annotations

from dataclasses import dataclass

from processor_app.delivery.mail_message import Mailbox, mailbox
from processor_app.delivery.smtp_url import SmtpServer, smtp_url
from processor_app.replies.links import base_url, secret_text
from service_kit.door_settings import DoorSettings
from service_kit.networks import IpNetwork, networks
from service_kit.settings import (
    choice,
    comma_list,
    flag,
    host_name,
    integer,
    milliseconds,
    port_number,
    seconds,
    seconds_list,
    setting,
    text,
    url,
)

PREFIX = "PROCESSOR"
#: What the service calls itself.
TITLE = "Order processor"


@dataclass(frozen=True, slots=True)
class ProcessorSettings(DoorSettings):
    """What the processor reads from its environment, once, at start."""

    host: str = setting("127.0.0.1", parse=host_name(), help="The address that the REST interface listens on.")
    port: int = setting(8005, parse=port_number(), help="The port of the REST interface.")
    grpc_host: str = setting(
        "", parse=host_name(), help="The address that the gRPC server listens on; without one, that of PROCESSOR_HOST."
    )
    grpc_port: int = setting(50052, parse=port_number(), help="The port of the gRPC server.")
    tls_cert: str = setting(
        "", parse=text(), help="The certificate (PEM) that the gRPC server shows; new files count for new connections."
    )
    tls_key: str = setting("", parse=text(), help="The key (PEM) of that certificate.")
    tls_ca: str = setting("", parse=text(), help="The authorities (PEM) whose certificates requestors must show.")
    tls_peers: tuple[str, ...] = setting(
        (),
        parse=comma_list("requestor"),
        help="The names of requestors that may call: DNS names of their certificates, or the common name without any.",
    )
    store: str = setting(
        "sqlite:///data/processor.db",
        parse=text(),
        may_hold_login=True,
        help="The store: a file (a relative path stands under the project folder), or a Redis that several share.",
    )
    keepalive_ms: int = setting(
        5_000,
        parse=milliseconds(250, 60_000),
        help="The period of the gRPC keepalive pings, in milliseconds; signs of life are sent after two fifths of it, "
        "and a peer that is silent for twice as long is cut. The same at both services.",
    )
    retention_s: float = setting(
        30 * 86_400.0,
        parse=seconds(1),
        help="How long an order's events are kept after its end, in seconds; its bare record for as long again.",
    )
    retry_schedule_s: tuple[float, ...] = setting(
        (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 36_000.0, 36_000.0, 36_000.0),
        parse=seconds_list(100),
        help="The pauses before a delivery is tried again, in seconds; after the last one it is dead.",
    )
    delivery_threads: int = setting(
        16, parse=integer(1, 256), help="How many deliveries are sent at a time; slow sellers have further threads."
    )
    smtp_url: SmtpServer | None = setting(
        None,
        parse=smtp_url(),
        secret=True,
        help="The mail server, smtp:// or smtps://; without one, mail is written as files to outbox/ beside the store.",
    )
    mail_from: Mailbox = setting(
        Mailbox("orders@localhost"), parse=mailbox(), help="The sender of mail: an address, or a name and an address."
    )
    webhook_timeout_s: float = setting(
        15.0, parse=seconds(0.1, 300), help="How long one attempt to reach a webhook may take, in seconds."
    )
    webhook_allow_networks: tuple[IpNetwork, ...] = setting(
        (),
        parse=networks(),
        help="Networks that webhooks may reach although they are not in the public internet, such as 127.0.0.0/8.",
    )
    public_url: str = setting(
        "http://127.0.0.1:8005", parse=base_url(), help="Under which address sellers reach the reply page."
    )
    reply_link_s: float = setting(
        30 * 86_400.0, parse=seconds(60), help="How long a reply link can be used, in seconds."
    )
    link_secret: str = setting(
        "",
        parse=secret_text(),
        secret=True,
        help="What reply links are signed with; without one, a secret is made and kept in a file beside the store.",
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
