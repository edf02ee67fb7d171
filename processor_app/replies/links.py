"""Signed reply links: whoever has one may answer one order in one seller's name, until it expires.

A link needs no account and no session, and nothing is stored for it: it says itself what it is for.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from itsdangerous import BadData, URLSafeSerializer

from processor_app.durable_file import write_whole
from service_kit.change import Ref
from service_kit.errors import StartRefused
from service_kit.settings import Parser, url

#: Names the form of a token: another form gets another salt, and no token is read as what it is not.
_SALT = "reply-link-1"
_SECRET_BYTES = 32
_LEAST_SECRET = 32


class LinkInvalid(Exception):
    """The token is none that was made here: cut off, changed, or signed with another secret."""


class LinkExpired(Exception):
    """The token was made here, but its time is over."""


@dataclass(frozen=True, slots=True)
class ReplyLink:
    """What a link is for: one seller's answer to one run of an order, or to one of its follow-ups."""

    ref: Ref
    run: int
    seller_id: str
    follow_up_id: str = ""
    delivery_id: str = ""

    @property
    def answer_id(self) -> str:
        """The id of the one final answer that may be given, whatever channel and delivery the link came by."""
        parts = (*self.ref, str(self.run), self.seller_id, self.follow_up_id)
        return f"link-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"

    def message_id(self, number: int) -> str:
        """The id of one of the messages that may be written before the final answer, counted from 1."""
        return f"{self.answer_id}-{number}"


class ReplyLinks:
    """Makes links and reads them."""

    def __init__(self, base_url: str, secret: Callable[[], str], lifetime_s: float) -> None:
        self._base_url = base_url
        self._secret = secret
        self._lifetime_s = lifetime_s

    def url_of(self, link: ReplyLink, issued_ms: int) -> str:
        """The address of the reply page; the same for the same link and time."""
        expires_s = int(issued_ms / 1000 + self._lifetime_s)
        content = [expires_s, *link.ref, link.run, link.seller_id, link.follow_up_id, link.delivery_id]
        return f"{self._base_url}/reply/{self._signer.dumps(content)}"

    def read(self, token: str, now_ms: int) -> ReplyLink:
        """What a token is for. Raises `LinkInvalid` or `LinkExpired`."""
        try:
            expires_s, tenant, key, run, seller_id, follow_up_id, delivery_id = self._signer.loads(token)
        except BadData:
            raise LinkInvalid from None
        if now_ms >= expires_s * 1000:
            raise LinkExpired
        return ReplyLink(Ref(tenant, key), run, seller_id, follow_up_id, delivery_id)

    @cached_property
    def _signer(self) -> URLSafeSerializer:
        options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        return URLSafeSerializer(self._secret(), salt=_SALT, signer_kwargs=options)


class SecretFile:
    """A secret that is made once and kept in a file. A component, so that a fault ends the start and not a mail."""

    name = "link-secret"

    def __init__(self, path: Path) -> None:
        self._path = path
        #: Guards the making: two threads must not make two secrets.
        self._lock = threading.Lock()

    def start(self) -> None:
        """Make the secret when there is none. Raises `StartRefused`."""
        try:
            self.read()
        except (OSError, ValueError) as fault:
            raise StartRefused(f"The secret of reply links in {self._path} cannot be used: {fault}") from None

    def stop(self, timeout_s: float = 0.0) -> None:
        """Nothing is open."""

    def check(self) -> str | None:
        """None: what was read once is kept."""
        return None

    def read(self) -> str:
        """The secret. Raises `OSError`, or `ValueError` for a file that holds none."""
        with self._lock:
            if not self._path.exists():
                write_whole(self._path, secrets.token_hex(_SECRET_BYTES).encode("ascii"))
            secret = self._path.read_text(encoding="ascii").strip()
        if len(secret) < _LEAST_SECRET:
            raise ValueError("it is too short; remove the file, and all links that were sent end")
        return secret


def secret_text() -> Parser[str]:
    """A secret that is long enough to sign with."""

    def read(raw: str) -> str:
        if len(raw) < _LEAST_SECRET:
            raise ValueError("too short")
        return raw

    return Parser(read, f"must have at least {_LEAST_SECRET} characters", "the output of openssl rand -hex 32")


def base_url() -> Parser[str]:
    """A URL that paths can be put behind."""
    plain = url("http", "https", example="https://orders.example.com")

    def read(raw: str) -> str:
        parts = urlsplit(plain.read(raw))
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError("not a base")
        return raw.rstrip("/")

    return Parser(read, f"{plain.rule}, without a query", plain.example)
