"""Who of several does a piece of work: all who know the same names choose the same one, and the work is spread evenly.

When a name goes, only its work moves; when one comes, it takes its part from each of the others (rendezvous hashing).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from service_kit.change import Ref


def chosen(ref: Ref, names: Iterable[str]) -> str:
    """The one of the names that an order falls to. Raises `ValueError` when there is none."""
    key = f"{ref.tenant}/{ref.key}".encode()
    return max(names, key=lambda name: (zlib.crc32(key, zlib.crc32(name.encode())), name))
