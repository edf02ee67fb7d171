"""What ``doctor`` looks at for the processor."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from processor_app.exposure import grpc_port_of, refusals, tls_of, warnings
from processor_app.settings import PREFIX, TITLE, ProcessorSettings
from service_kit.commands import examinations
from service_kit.commands.calling import shown_key
from service_kit.commands.doctor import Patient
from service_kit.findings import Finding, fault, fine, note
from service_kit.ports import WantedPort
from service_kit.settings import load_valid_settings, settings_in_use
from service_kit.storage.inspection import inspect_store
from service_kit.storage.opening import is_redis

PROJECT_FOLDER = Path(__file__).resolve().parents[2]
REQUIREMENTS = PROJECT_FOLDER / "requirements.txt"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def processor_patient(environ: Mapping[str, str]) -> Patient:
    """The processor as this environment sets it up."""
    settings = load_valid_settings(ProcessorSettings, PREFIX, environ)
    port = WantedPort(settings.host, settings.port, f"{PREFIX}_PORT")
    grpc_port = grpc_port_of(settings)
    requestor_store = environ.get("REQUESTOR_STORE", "").strip()
    return Patient(
        name="processor",
        settings=partial(settings_in_use, ProcessorSettings, PREFIX, environ),
        packages=partial(examinations.package_versions, REQUIREMENTS),
        examinations=(
            partial(examinations.examine_settings, ProcessorSettings, PREFIX, environ),
            partial(examinations.examine_pulse, environ),
            partial(examinations.examine_versions, REQUIREMENTS),
            partial(examinations.examine_ports, [port, grpc_port], TITLE, port, shown_key("processor", environ)),
            partial(examinations.examine_exposure, refusals(settings), warnings(settings)),
            partial(examinations.examine_tls, partial(tls_of, settings)),
            partial(examinations.examine_sharing, settings.store, requestor_store, f"{PREFIX}_STORE"),
            partial(
                inspect_store,
                settings.store,
                base_folder=PROJECT_FOLDER,
                prefix=PREFIX.lower(),
                setting=f"{PREFIX}_STORE",
                foreign_kind="initiated",
            ),
            partial(examine_links, settings),
            partial(examine_mail, settings),
        ),
    )


def examine_links(settings: ProcessorSettings) -> Iterator[Finding]:
    """Whether reply links are good at every processor that shares the store."""
    if is_redis(settings.store) and not settings.link_secret:
        yield fault(
            "settings",
            "Processors that share a Redis need one secret for reply links.",
            f"Set {PREFIX}_LINK_SECRET, to the same at each of them.",
        )


def examine_mail(settings: ProcessorSettings) -> Iterator[Finding]:
    """Whether mail can leave, and whether sellers can follow the links in it."""
    server = settings.smtp_url
    if server is None:
        yield note(
            "mail",
            "Mail is written as files to outbox/ beside the store, and reaches nobody.",
            f"Set {PREFIX}_SMTP_URL to your mail server when mail is to be sent.",
        )
        return
    try:
        with socket.create_connection((server.host, server.port), timeout=min(5.0, server.timeout_s)):
            yield fine("mail", f"The mail server {server.host} takes connections on port {server.port}.")
    except OSError as error:
        yield fault(
            "mail",
            f"The mail server {server.host} cannot be reached on port {server.port} ({error.strerror or error}).",
            f"Correct {PREFIX}_SMTP_URL, or let the firewall pass this port. Mail is tried again until then.",
        )
    if (urlsplit(settings.public_url).hostname or "") in _LOOPBACK:
        yield fault(
            "links",
            f"Reply links in mail lead to {settings.public_url}, which is the reader's own machine.",
            f"Set {PREFIX}_PUBLIC_URL to the address under which sellers reach the processor.",
        )
