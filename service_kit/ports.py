"""Ports: listening without sharing, and one line about what to change when a port cannot be had."""

from __future__ import annotations

import errno
import os
import socket
from typing import NamedTuple

from service_kit.errors import StartRefused


def port_taken_line(port: int, setting: str) -> str:
    """The line for a port that another process holds: which one, who holds it, and the setting that moves ours."""
    return (
        f"Port {port} is already in use. Find its holder with `netstat -ano | findstr :{port}` (Windows) or "
        f"`ss -ltnp 'sport = :{port}'` (Linux) and stop it, or set {setting} to another port."
    )


def bind_refused_line(error: OSError, host: str, port: int, port_setting: str) -> str:
    """The line for an address that the system does not let us listen on, whatever the reason."""
    if error.errno == errno.EADDRINUSE:
        return port_taken_line(port, port_setting)
    if error.errno == errno.EACCES and os.name == "nt":
        # Windows says "access denied" for a port that is held exclusively, and for the ranges that it reserves.
        return port_taken_line(port, port_setting) + " `netsh int ipv4 show excludedportrange tcp` lists reserved ones."
    if error.errno == errno.EACCES:
        return f"No permission to listen on port {port}: set {port_setting} to a port from 1024 to 65535."
    host_setting = port_setting.removesuffix("_PORT") + "_HOST"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"Cannot listen on {host}: it is no address of this machine. Set {host_setting}, such as to 127.0.0.1."
    reason = error.strerror or type(error).__name__
    return f"Cannot listen on {host} port {port} ({reason}). Set {host_setting} or {port_setting}."


def listen_alone(host: str, port: int, port_setting: str, *, backlog: int = 128) -> socket.socket:
    """A listening socket that shares its port with nobody. Raises `StartRefused` with one line that says what to do."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # "localhost" is often both; IPv4 is what clients of this name try for certain.
        family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartRefused(bind_refused_line(error, host, port, port_setting)) from None
    try:
        _claim_exclusively(listener)
        listener.bind(address)
        # Two sockets may be bound to a port; only one may listen. So this too belongs to having the port.
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise StartRefused(bind_refused_line(error, host, port, port_setting)) from None
    return listener


class WantedPort(NamedTuple):
    """A port that a service is to listen on, and the setting that moves it."""

    host: str
    port: int
    setting: str


class PortCheck:
    """The first component of a service: whoever starts it twice hears of the port before anything else is touched."""

    name = "ports"

    def __init__(self, *wanted: WantedPort) -> None:
        self._wanted = wanted

    def start(self) -> None:
        """Try every port. Raises `StartRefused` with one line when one cannot be had."""
        for host, port, port_setting in self._wanted:
            listen_alone(host, port, port_setting).close()

    def stop(self, timeout_s: float) -> None:
        """Nothing runs."""

    def check(self) -> str | None:
        """None: it is over when `start` returns."""
        return None


def _claim_exclusively(listener: socket.socket) -> None:
    """Make sure that no other process can share the port."""
    if os.name == "nt":
        listener.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE"), 1)  # noqa: B009 - Windows only
    else:
        # Elsewhere this shares nothing; it lets a restart have the port while old connections fade away.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
