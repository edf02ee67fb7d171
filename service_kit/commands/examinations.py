"""What ``doctor`` looks at in either service: its settings, versions, ports and surroundings."""

from __future__ import annotations

import os
import platform
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import requests
from packaging.requirements import Requirement

from service_kit import failpoints
from service_kit.commands.calling import EVERYWHERE, service_url
from service_kit.commands.printing import printable
from service_kit.errors import StartRefused
from service_kit.findings import Finding, fault, fine, note
from service_kit.ports import WantedPort, listen_alone
from service_kit.settings import settings_in_use, unknown_variables
from service_kit.storage.inspection import SQLITE_VERSION
from service_kit.storage.opening import is_redis
from service_kit.tls_files import TlsFault, TlsFiles, expires_at_s

OLDEST_PYTHON = (3, 11)
DEFAULT_KEEPALIVE_MS = "5000"
_TIMEOUT_S = 3.0
_SOON_DAYS = 30
_RENEW = "Renew it; `python dev.py certs` renews what it has made. A running service takes the new files into use."


class RunningService(NamedTuple):
    """A service that answers where ours would listen."""

    title: str
    version: str
    #: What is said of each part that does not work.
    troubles: tuple[str, ...]


def examine_settings(cls: type[Any], prefix: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Texts that cannot be read, variables that nobody reads, and faults that are armed on purpose."""
    rows = settings_in_use(cls, prefix, environ)
    for row in rows:
        if row.fault is not None:
            yield fault("settings", f"The text of {row.variable} cannot be used.", f"{row.fault}.")
    if all(row.fault is None for row in rows):
        given = sum(row.source == "environment" for row in rows)
        yield fine("settings", f"{given} of {len(rows)} settings are set in the environment.")
    for sentence in unknown_variables(cls, prefix, environ):
        text, _, question = sentence.partition("; ")
        mend = f"{question[0].upper()}{question[1:]} Else remove it." if question else "Remove it."
        yield note("settings", f"{text}.", mend)
    if environ.get(failpoints.VARIABLE):
        yield fault(
            "settings",
            f"{failpoints.VARIABLE} is set: the service dies, fails or waits on purpose.",
            f"Remove {failpoints.VARIABLE} from the environment.",
        )


def examine_pulse(environ: Mapping[str, str]) -> Iterator[Finding]:
    """The period of the signs of life, which must be the same at both services, as far as both are set here."""
    names = ("REQUESTOR_KEEPALIVE_MS", "PROCESSOR_KEEPALIVE_MS")
    values = [environ.get(name, "").strip() or DEFAULT_KEEPALIVE_MS for name in names]
    if len(set(values)) > 1:
        said = " and ".join(f"{name} is {printable(value)}" for name, value in zip(names, values, strict=True))
        yield fault(
            "settings", f"{said}.", "Set both to the same: each end cuts the other when it is silent for longer."
        )


def examine_sharing(own_url: str, other_url: str, setting: str) -> Iterator[Finding]:
    """Whether both services are set to one store. In a Redis they share nothing."""
    if other_url and own_url == other_url and not is_redis(own_url):
        yield fault("store", "Both services are set to the same store.", f"Set {setting} to a store of its own.")


# ---- versions


def examine_versions(requirements: Path) -> Iterator[Finding]:
    """The versions of Python, SQLite and the packages that ``requirements`` asks for."""
    python = platform.python_version()
    if tuple(map(int, platform.python_version_tuple()[:2])) < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        yield fault("versions", f"This is Python {python}.", f"Run the service with Python {wanted} or newer.")
    else:
        yield fine("versions", f"Python {python}, SQLite {SQLITE_VERSION}, {platform.platform(terse=True)}.")
    faults = list(_package_faults(requirements))
    yield from faults
    if not faults:
        yield fine("versions", "Every package has a release that the services were made for.")


def _package_faults(requirements: Path) -> Iterator[Finding]:
    for wanted in _requirements_of(requirements):
        version = _version_of(wanted)
        if version is None:
            text = f"The package {wanted.name} is not installed."
        elif wanted.specifier.contains(version, prereleases=True):
            continue
        else:
            text = f"{wanted.name} {version} is installed, and {wanted} is needed."
        yield fault("versions", text, f"Run `python -m pip install -r {requirements.name}` in the project's folder.")


def package_versions(requirements: Path) -> dict[str, str | None]:
    """The installed release of each package that ``requirements`` names."""
    return {wanted.name: _version_of(wanted) for wanted in _requirements_of(requirements)}


def _requirements_of(file: Path) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def _version_of(wanted: Requirement) -> str | None:
    try:
        return metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return None


# ---- ports


def examine_ports(wanted: Sequence[WantedPort], title: str, rest: WantedPort, key: str | None) -> Iterator[Finding]:
    """Whether each port can be had, and who has it otherwise; our own service may have it."""
    running = running_service(rest.host, rest.port, key)
    is_ours = running is not None and running.title == title
    for host, port, setting in wanted:
        try:
            listen_alone(host, port, setting).close()
        except StartRefused as refusal:
            if is_ours and _is_taken(host, port):
                yield fine("ports", f"The running service listens on port {port}.")
            else:
                yield fault("ports", f"{_holder_of(port)}{_cause_of(refusal)}", _advice_of(refusal))
        else:
            yield fine("ports", f"Port {port} of {host} is free." if port else "Any free port is taken at start.")
    if is_ours and running is not None:
        if running.troubles:
            yield fault("service", f"It runs but is not ready: {'; '.join(running.troubles)}.", "Its log tells more.")
        else:
            yield fine("service", f"It runs and is ready: version {running.version}.")
    else:
        yield note("service", "It does not run.", "Start it when you want it to.")


def running_service(host: str, port: int, key: str | None) -> RunningService | None:
    """The service of ours that answers at an address, or None. One that needs keys says more to a good one."""
    if not port:
        return None
    url = service_url(host, port)
    with requests.Session() as session:
        session.trust_env = False  # a proxy must not stand between us and this machine
        try:
            info = session.get(f"{url}/openapi.json", timeout=_TIMEOUT_S).json()["info"]
            login = {} if key is None else {"Authorization": f"Bearer {key}"}
            readiness = session.get(f"{url}/readyz", timeout=_TIMEOUT_S, headers=login).json()
            troubles = _troubles_of(readiness["status"], readiness.get("checks", {}))
            return RunningService(str(info["title"]), str(info["version"]), troubles)
        except (requests.RequestException, ValueError, LookupError, TypeError):
            return None


def _troubles_of(status: str, checks: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    troubles = tuple(f"{name}: {check['detail']}" for name, check in checks.items() if not check["ok"])
    return troubles or (() if status == "ready" else ("it says why to a key with the scope operate",))


def _is_taken(host: str, port: int) -> bool:
    try:
        with socket.create_connection((EVERYWHERE.get(host, host), port), timeout=_TIMEOUT_S):
            return True
    except OSError:
        return False


def _holder_of(port: int) -> str:
    """Who listens on a port, as far as the system lets us see."""
    try:
        found = [entry for entry in psutil.net_connections("tcp") if entry.laddr and entry.laddr.port == port]
        pids = [entry.pid for entry in found if entry.status == psutil.CONN_LISTEN and entry.pid]
        if pids:
            return f"{psutil.Process(pids[0]).name()} (process {pids[0]}) listens there. "
    except (psutil.Error, OSError):
        pass
    return ""


def _cause_of(refusal: Exception) -> str:
    sentence, end, _ = str(refusal).partition(". ")
    return sentence + end.strip()


def _advice_of(refusal: StartRefused) -> str:
    return str(refusal).partition(". ")[2] or str(refusal)


def examine_exposure(refusals: Iterable[str], warnings: Iterable[str]) -> Iterator[Finding]:
    """What other machines can reach, and whether that is protected."""
    refused = list(refusals)
    for sentence in refused:
        cause, _, advice = sentence.partition(": ")
        yield fault("reach", f"It does not start: {cause}.", f"{advice[0].upper()}{advice[1:]}")
    for sentence in warnings:
        yield note("reach", sentence, "docs/how-to/tls.md and docs/how-to/nginx.md show how to close it.")
    if not refused:
        yield fine("reach", "What other machines can reach asks for keys and certificates.")


def examine_tls(files_of: Callable[[], TlsFiles | None]) -> Iterator[Finding]:
    """Whether the files for TLS can be used, and for how long."""
    try:
        files = files_of()
        identity = None if files is None else files.read()
    except (StartRefused, TlsFault) as failure:
        yield fault("tls", f"{_cause_of(failure).rstrip('.')}.", "`python dev.py certs` makes files that fit.")
        return
    if files is None or identity is None:
        return
    days = (expires_at_s(identity) - time.time()) / 86_400
    if days <= 0:
        yield fault("tls", f"The certificate {files.cert} has expired.", _RENEW)
    elif days < _SOON_DAYS:
        yield note("tls", f"The certificate {files.cert} expires in {days:.0f} days.", _RENEW)
    else:
        yield fine("tls", f"The certificate {files.cert} is good for {days:.0f} days.")
    if os.name != "nt" and files.key.stat().st_mode & stat.S_IROTH:
        yield fault("tls", f"Every user of this machine can read {files.key}.", f"Run `chmod 600 {files.key}`.")


def environment() -> Mapping[str, str]:
    """The environment of this process: the one place of the commands that reads it."""
    return os.environ
