"""What ``doctor`` looks at for the requestor."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from requestor_app.exposure import refusals, tls_of, warnings
from requestor_app.processor_probe import ProbeFailed, ask_processor
from requestor_app.settings import PREFIX, TITLE, RequestorSettings
from service_kit.commands import examinations
from service_kit.commands.calling import shown_key
from service_kit.commands.doctor import Patient
from service_kit.errors import StartRefused
from service_kit.findings import Finding, fault, fine, note
from service_kit.ports import WantedPort
from service_kit.settings import load_valid_settings, settings_in_use
from service_kit.storage.inspection import inspect_store
from service_kit.tls_files import TlsFault
from service_kit.version import VERSION

PROJECT_FOLDER = Path(__file__).resolve().parents[2]
REQUIREMENTS = PROJECT_FOLDER / "requirements.txt"
#: Clocks that are further apart make the times of one order contradict each other.
CLOCK_SLACK_MS = 2_000


def requestor_patient(environ: Mapping[str, str]) -> Patient:
    """The requestor as this environment sets it up."""
    settings = load_valid_settings(RequestorSettings, PREFIX, environ)
    port = WantedPort(settings.host, settings.port, f"{PREFIX}_PORT")
    processor_store = environ.get("PROCESSOR_STORE", "").strip()
    return Patient(
        name="requestor",
        settings=partial(settings_in_use, RequestorSettings, PREFIX, environ),
        packages=partial(examinations.package_versions, REQUIREMENTS),
        examinations=(
            partial(examinations.examine_settings, RequestorSettings, PREFIX, environ),
            partial(examinations.examine_pulse, environ),
            partial(examinations.examine_versions, REQUIREMENTS),
            partial(examinations.examine_ports, [port], TITLE, port, shown_key("requestor", environ)),
            partial(examinations.examine_exposure, refusals(settings), warnings(settings)),
            partial(examinations.examine_tls, partial(tls_of, settings)),
            partial(examinations.examine_sharing, settings.store, processor_store, f"{PREFIX}_STORE"),
            partial(
                inspect_store,
                settings.store,
                base_folder=PROJECT_FOLDER,
                prefix=PREFIX.lower(),
                setting=f"{PREFIX}_STORE",
                foreign_kind="accepted",
            ),
            partial(examine_processors, settings),
        ),
    )


def examine_processors(settings: RequestorSettings) -> Iterator[Finding]:
    """Whether each processor answers, and how far its clock and its version are from ours."""
    try:
        tls = tls_of(settings)
        if tls is not None:
            tls.read()
    except (StartRefused, TlsFault):
        return  # told of by the examination of TLS
    for target in settings.processors:
        try:
            answer = ask_processor(target, keepalive_ms=settings.keepalive_ms, tls=tls)
        except ProbeFailed as failure:
            yield _unreachable(target, str(failure))
            continue
        yield fine("processor", f"{target} answers within {answer.took_ms} ms: version {answer.version}.")
        if answer.version != VERSION:
            yield note(
                "processor",
                f"{target} has version {answer.version}, this is {VERSION}.",
                "They work together; upgrade the other one as well when it suits.",
            )
        if abs(answer.clock_ahead_ms) > CLOCK_SLACK_MS:
            way = "before" if answer.clock_ahead_ms > 0 else "behind"
            yield fault(
                "clock",
                f"The clock of {target} is {abs(answer.clock_ahead_ms) / 1000:,.1f} s {way} the one of this machine.",
                "Set the wrong clock; a time service on both machines keeps them together.",
            )
        else:
            yield fine("clock", f"The clock of {target} and that of this machine agree.")


def _unreachable(target: str, reason: str) -> Finding:
    host, _, port = target.rpartition(":")
    if ": " in reason:
        return fault(
            "processor",
            f"{target} answers, but not to this requestor ({reason}).",
            f"Look at {PREFIX}_TLS_CERT and {PREFIX}_TLS_CA here, at PROCESSOR_TLS_CA and PROCESSOR_TLS_PEERS there.",
        )
    if port.isdigit() and "/" not in target and _is_listening(host.strip("[]"), int(port)):
        return fault(
            "processor",
            f"What listens at {target} is no processor's gRPC server ({reason}).",
            f"Set {PREFIX}_PROCESSORS to the port of PROCESSOR_GRPC_PORT (50052), not to that of the REST interface.",
        )
    return fault(
        "processor",
        f"Nobody answers at {target} ({reason}). Orders are taken and wait for it.",
        f"Start the processor, or set {PREFIX}_PROCESSORS to where it is; a firewall may stand between.",
    )


def _is_listening(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False
