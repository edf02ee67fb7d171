"""What to say when a port cannot be listened on: one line, with what to change."""

from __future__ import annotations

import errno
import os
import socket


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
