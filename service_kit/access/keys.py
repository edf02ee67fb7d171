"""Keys: how one is made, what it looks like, and whether a text that was shown is one.

A token is ``oc_<key id>_<secret>``. The secret is random and long, so a plain SHA-256 of it is enough at rest: there is
nothing to guess that a slow digest would make slower.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from collections.abc import Iterable
from typing import NamedTuple

from service_kit.access.model import ApiKey, Scope
from service_kit.change import DEFAULT_TENANT
from service_kit.times import now_ms

#: Also what scanners for secrets look for.
TOKEN_PATTERN = re.compile(r"oc_([a-z0-9]{12})_([A-Za-z0-9]{43})")
_ID_LETTERS = string.ascii_lowercase + string.digits
#: 43 of 62 letters are 256 bits, and a double click selects them all.
_SECRET_LETTERS = string.ascii_letters + string.digits
_ID_LENGTH, _SECRET_LENGTH = 12, 43


class NewKey(NamedTuple):
    """A key and its token, which is shown once and kept nowhere."""

    key: ApiKey
    token: str


def make_key(
    scopes: Iterable[Scope],
    *,
    tenant: str = DEFAULT_TENANT,
    seller_id: str | None = None,
    name: str = "",
    lives_ms: int | None = None,
) -> NewKey:
    """A new key, good for ``lives_ms`` from now on, or until it is revoked."""
    key_id, secret = _random(_ID_LETTERS, _ID_LENGTH), _random(_SECRET_LETTERS, _SECRET_LENGTH)
    created_ms = now_ms()
    key = ApiKey(
        key_id=key_id,
        tenant=tenant,
        name=name,
        scopes=frozenset(scopes),
        seller_id=seller_id,
        digest=digest_of(secret),
        created_ms=created_ms,
        expires_ms=None if lives_ms is None else created_ms + lives_ms,
    )
    return NewKey(key, f"oc_{key_id}_{secret}")


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _random(letters: str, length: int) -> str:
    return "".join(secrets.choice(letters) for _ in range(length))
