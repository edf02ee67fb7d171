"""The processor's settings: environment variables that begin with ``PROCESSOR_``."""

from __future__ import annotations

from dataclasses import dataclass

from service_kit.settings import choice, host_name, milliseconds, port_number, seconds, setting, text

PREFIX = "PROCESSOR"


@dataclass(frozen=True, slots=True)
class ProcessorSettings:
    """What the processor reads from its environment, once, at start."""

    host: str = setting(
        "127.0.0.1", parse=host_name(), help="The address that the REST interface and the gRPC server listen on."
    )
    port: int = setting(8005, parse=port_number(), help="The port of the REST interface.")
    grpc_port: int = setting(50052, parse=port_number(), help="The port of the gRPC server.")
    store: str = setting(
        "sqlite:///data/processor.db", parse=text(), help="The store; a relative path stands under the project folder."
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
    log_format: str = setting("console", parse=choice("console", "json"), help="How log lines look.")
    log_level: str = setting(
        "INFO", parse=choice("DEBUG", "INFO", "WARNING", "ERROR"), help="The least level that is logged."
    )
