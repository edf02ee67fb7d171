"""What of the processor other machines can reach, and how it reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from processor_app.delivery.smtp_url import Security
from processor_app.settings import PREFIX, ProcessorSettings
from service_kit import exposure
from service_kit.errors import StartRefused
from service_kit.ports import WantedPort
from service_kit.tls_files import TlsFiles, tls_files

PROJECT_FOLDER = Path(__file__).resolve().parent.parent


def grpc_port_of(settings: ProcessorSettings) -> WantedPort:
    """Where the gRPC server listens."""
    return WantedPort(settings.grpc_host or settings.host, settings.grpc_port, f"{PREFIX}_GRPC_PORT")


def tls_of(settings: ProcessorSettings) -> TlsFiles | None:
    """The files for the wire to requestors, or None without TLS. Raises `StartRefused` when a setting is missing."""
    files = tls_files(PREFIX, settings.tls_cert, settings.tls_key, settings.tls_ca, base_folder=PROJECT_FOLDER)
    if (files is None) != (not settings.tls_peers):
        raise StartRefused(
            f"{PREFIX}_TLS_PEERS must name the requestors that may call, as their certificates do"
            if files
            else f"{PREFIX}_TLS_PEERS means nothing without {PREFIX}_TLS_CERT, {PREFIX}_TLS_KEY and {PREFIX}_TLS_CA"
        )
    return files


def refusals(settings: ProcessorSettings) -> Iterator[str]:
    """Why it may not start with these settings."""
    yield from exposure.web_refusals(
        PREFIX,
        settings.host,
        requires_keys=settings.require_keys,
        trusted_proxies=settings.trusted_proxies,
    )
    setting = f"{PREFIX}_GRPC_HOST" if settings.grpc_host else f"{PREFIX}_HOST"
    yield from exposure.grpc_refusals(PREFIX, setting, grpc_port_of(settings).host, has_tls=bool(settings.tls_cert))


def warnings(settings: ProcessorSettings) -> Iterator[str]:
    """What is open and may be so on purpose."""
    yield from exposure.open_proxy_warnings(
        PREFIX, requires_keys=settings.require_keys, trusted_proxies=settings.trusted_proxies
    )
    yield from exposure.store_warnings(f"{PREFIX}_STORE", settings.store)
    server = settings.smtp_url
    if server is not None and not exposure.is_loopback(server.host) and server.security in _UNPROTECTED:
        yield f"{PREFIX}_SMTP_URL lets mail go to {server.host} in clear. Use smtps:// or starttls=required."


_UNPROTECTED = (Security.OPTIONAL, Security.OFF)
