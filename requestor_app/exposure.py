"""What of the requestor other machines can reach, and how it reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from requestor_app.settings import PREFIX, RequestorSettings
from service_kit import exposure
from service_kit.tls_files import TlsFiles, tls_files

PROJECT_FOLDER = Path(__file__).resolve().parent.parent


def tls_of(settings: RequestorSettings) -> TlsFiles | None:
    """The files for the wire to the processor, or None without TLS. Raises `StartRefused` when some are missing."""
    return tls_files(PREFIX, settings.tls_cert, settings.tls_key, settings.tls_ca, base_folder=PROJECT_FOLDER)


def refusals(settings: RequestorSettings) -> Iterator[str]:
    """Why it may not start with these settings."""
    yield from exposure.web_refusals(
        PREFIX,
        settings.host,
        requires_keys=settings.require_keys,
        trusted_proxies=settings.trusted_proxies,
    )
    yield from exposure.target_refusals(PREFIX, settings.processors, has_tls=bool(settings.tls_cert))


def warnings(settings: RequestorSettings) -> Iterator[str]:
    """What is open and may be so on purpose."""
    yield from exposure.open_proxy_warnings(
        PREFIX, requires_keys=settings.require_keys, trusted_proxies=settings.trusted_proxies
    )
    yield from exposure.store_warnings(f"{PREFIX}_STORE", settings.store)
