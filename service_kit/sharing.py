"""Who of several does a piece of work: all who know the same names choose the same one, and the work is spread evenly.

When a name goes, only its work moves; when one comes, it takes its part from each of the others (rendezvous hashing).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from service_kit.change import Ref


def chosen(ref: Ref, names: Iterable[str]) -> str:
    """The one of the names that an order falls to. Raises `ValueError` when there is none."""
    return max(names, key=lambda name: _weight(name, ref))


def _weight(name: str, ref: Ref) -> bytes:
    # A checksum would not do: those of names that are nearly the same depend on each other.
    return hashlib.blake2b(f"{name} {ref.tenant}/{ref.key}".encode(), digest_size=8).digest()
