"""A network of its own for the two services, with a wire between them that can be cut and slowed down.

Each service stands in a network namespace. The driver, which is this process, reaches both directly. What the services
tell each other goes through a third namespace, the wire, which forwards it, slows it down or drops it in silence:

    driver ──── requestor ──── wire ──── processor ──── driver
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from tests.certified import WireFolder
from tests.e2e.conftest import ROOT
from tests.faults.arena import Arena

SERVICES = ("requestor", "processor")
#: As many networks can stand beside each other on one machine.
_MOST_NETWORKS = 256


class Link(NamedTuple):
    """Two places with a cable between them."""

    near: str
    far: str


_LINKS = tuple(Link(place, service) for place in ("driver", "wire") for service in SERVICES)


class Network:
    """Three namespaces and four links; they stay until `remove`. Needs root and iproute2."""

    def __init__(self) -> None:
        with ExitStack() as undo:
            self._number = _take_number()
            undo.callback(_run, "ip", "netns", "del", self._namespace("wire"))
            for service in SERVICES:
                _run("ip", "netns", "add", self._namespace(service))
                undo.callback(_run, "ip", "netns", "del", self._namespace(service))
            for link in _LINKS:
                self._lay(link)
                undo.callback(self._run_in, link.near, "ip", "link", "del", self._interface(link, link.near))
            for service in SERVICES:
                gateway = self._address(Link("wire", service), "wire")
                self._run_in(service, "ip", "link", "set", "lo", "up")
                self._run_in(service, "ip", "route", "add", f"{self._block}.0/24", "via", gateway)
            self._run_in("wire", "sysctl", "-qw", "net.ipv4.ip_forward=1")
            self._undo = undo.pop_all()

    def remove(self) -> None:
        """Take everything away. Safe to call twice."""
        self._undo.close()

    def house(self, arena: Arena) -> None:
        """Let the two services of an arena, not started yet, live in here: with TLS, since each is another machine."""
        address = self._address(Link("wire", "processor"), "processor")
        certified = WireFolder(arena.services.folder / "certs")
        certified.renew("processor", address)
        arena.processor.settings["PROCESSOR_GRPC_HOST"] = address
        arena.requestor.settings["REQUESTOR_PROCESSORS"] = f"{address}:{arena.services.grpc_port}"
        for service in arena.both:
            service.settings.update(certified.environment(service.name))
            # The driver's calls come in at another address than the trunk, and through a gateway.
            service.host = self._address(Link("driver", service.name), service.name)
            inside = ["ip", "netns", "exec", self._namespace(service.name)]
            service.command = [*inside, *service.command]
            port = service.settings[f"{service.prefix}_PORT"]
            gateway = [*inside, sys.executable, "-m", "tests.faults.gateway", service.host, port]
            process = subprocess.Popen(gateway, cwd=ROOT)
            self._undo.callback(process.wait, 10)
            self._undo.callback(process.kill)

    @contextmanager
    def cut(self, *receivers: str) -> Iterator[None]:
        """Drop in silence what is on its way to these services, until the block ends."""
        with ExitStack() as undo:
            for receiver in receivers:
                hole = ("blackhole", self._address(Link("wire", receiver), receiver))
                self._run_in("wire", "ip", "route", "add", *hole)
                undo.callback(self._run_in, "wire", "ip", "route", "del", *hole)
            yield

    @contextmanager
    def slow(self, rate: str) -> Iterator[None]:
        """Let the wire carry no more than ``rate`` each way, such as ``1mbit``, until the block ends."""
        with ExitStack() as undo:
            for service in SERVICES:
                place = ("dev", self._interface(Link("wire", service), "wire"), "root")
                bucket = ("tbf", "rate", rate, "burst", "4kb", "latency", "400ms")
                self._run_in("wire", "tc", "qdisc", "add", *place, *bucket)
                undo.callback(self._run_in, "wire", "tc", "qdisc", "del", *place)
            yield

    # ---- how it is built

    def _lay(self, link: Link) -> None:
        near, far = (self._interface(link, end) for end in link)
        peer = ("peer", "name", far, "netns", self._namespace(link.far))
        self._run_in(link.near, "ip", "link", "add", near, "type", "veth", *peer)
        for end in link:
            interface = self._interface(link, end)
            self._run_in(end, "ip", "addr", "add", f"{self._address(link, end)}/30", "dev", interface)
            self._run_in(end, "ip", "link", "set", interface, "up")

    @property
    def _block(self) -> str:
        # Addresses that are set aside for tests of networks (RFC 2544).
        return f"198.18.{self._number}"

    def _address(self, link: Link, end: str) -> str:
        return f"{self._block}.{4 * _LINKS.index(link) + 1 + link.index(end)}"

    def _interface(self, link: Link, end: str) -> str:
        return f"oc{self._number}-{_LINKS.index(link)}{link.index(end)}"

    def _namespace(self, place: str) -> str:
        return f"oc{self._number}-{place}"

    def _run_in(self, place: str, *command: str) -> None:
        inside = () if place == "driver" else ("ip", "netns", "exec", self._namespace(place))
        _run(*inside, *command)


def _take_number() -> int:
    """Make the wire's namespace under the first free number; whoever makes a name has its number."""
    for number in range(_MOST_NETWORKS):
        try:
            _run("ip", "netns", "add", f"oc{number}-wire")
        except FileExistsError:
            continue
        return number
    raise RuntimeError("all networks are taken; `ip netns list` shows them")


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if "File exists" in done.stderr:
        raise FileExistsError(" ".join(command))
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
