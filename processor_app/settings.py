"""The processor's settings: environment variables that begin with ``PROCESSOR_``."""

from __future__ import annotations

from dataclasses import dataclass

from service_kit.settings import choice, host_name, milliseconds, port_number, setting, text

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
        10_000, parse=milliseconds(100), help="The period of the gRPC connections' keepalive pings, in milliseconds."
    )
    log_format: str = setting("console", parse=choice("console", "json"), help="How log lines look.")
    log_level: str = setting(
        "INFO", parse=choice("DEBUG", "INFO", "WARNING", "ERROR"), help="The least level that is logged."
    )
