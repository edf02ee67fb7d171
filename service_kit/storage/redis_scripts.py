"""The scripts that run inside Redis, each of them one atomic step on one shard."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the name by which a server that has seen it knows it."""

    text: bytes
    sha: bytes


def _script(name: str) -> Script:
    parts = ((_FOLDER / f"{part}.lua").read_bytes() for part in ("common", name))
    text = b"\n".join(part.replace(b"\r\n", b"\n") for part in parts)
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


COMMIT = _script("commit")
FLOOR = _script("floor")
LEASE = _script("lease")
LOAD = _script("load")
LOGS = _script("logs")
NOW = _script("now")
OUTBOX = _script("outbox")
OWNERS = _script("owners")
PAGE = _script("page")
PENDING = _script("pending")
PURGE = _script("purge")
RATE = _script("rate")
STALE = _script("stale")
