"""The words of access: scopes, keys, the principal that a request acts for, and the lines of the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol

from service_kit.change import DEFAULT_TENANT
from service_kit.errors import ServiceError

#: How many lines the audit log keeps.
AUDIT_LINES = 10_000


class Scope(StrEnum):
    """What a key is for."""

    ORDERS_READ = "orders:read"
    ORDERS_WRITE = "orders:write"
    SELLERS_WRITE = "sellers:write"
    #: Bound to one seller: answers in that seller's name.
    REPLIES_WRITE = "replies:write"
    #: The operator page and its actions, metrics, deliveries.
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a request acts for."""

    tenant: str
    scopes: frozenset[Scope]
    #: The key that was shown; empty where none is needed.
    key_id: str = ""
    #: The only seller in whose name it may answer; None: any.
    seller_id: str | None = None


#: Who calls where no key is needed: on loopback, to try things out.
ANYBODY = Principal(DEFAULT_TENANT, frozenset(Scope))


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept: of its secret only a digest."""

    key_id: str
    tenant: str
    name: str
    scopes: frozenset[Scope]
    seller_id: str | None
    #: SHA-256 of the secret, in hex.
    digest: str
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    last_used_ms: int | None = None


#: Who did something without a key: where none is needed, at the terminal, or with a key that is not known.
NO_KEY_NEEDED, AT_THE_TERMINAL, NO_KNOWN_KEY = "anybody", "terminal", "nobody"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action: who did what to what, from where, and what became of it."""

    at_ms: int
    tenant: str
    #: Who: the key's id, or one of the words below.
    key_id: str
    action: str
    target: str
    address: str
    outcome: str


class AccessStore(Protocol):
    """Keeps keys, the audit log and one secret; several processes may have it open at the same time."""

    def keys(self) -> Sequence[ApiKey]:
        """All keys, revoked ones too, oldest first."""

    def add(self, key: ApiKey) -> None:
        """Keep a new key."""

    def revoke(self, key_id: str, at_ms: int) -> bool:
        """Make a key useless for good; False when there is no such key. Raises `StoreUnavailable`, as all do."""

    def touch(self, used: dict[str, int]) -> None:
        """Note when keys were used, in milliseconds; an earlier time than the known one changes nothing."""

    def version(self) -> int:
        """Grows with every key that is added or revoked, and with nothing else; cheap to ask for once a second."""

    def record(self, entry: AuditEntry) -> None:
        """Keep a line of the audit log, which forgets the oldest ones above its limit."""

    def audit(self, tenant: str | None, *, limit: int) -> Sequence[AuditEntry]:
        """The newest lines of the audit log, newest first; of all tenants when None."""

    def secret(self) -> str:
        """A random secret, made once, for signing sessions."""

    def end_session(self, session_id: str, until_ms: int) -> None:
        """Keep in mind until then that a session was ended by its owner."""

    def has_ended(self, session_id: str) -> bool:
        """Whether a session was ended by its owner."""


class Unauthorized(ServiceError):
    """The request shows no key."""

    code = "unauthorized"
    title = "A key is needed"
    #: What the answer's WWW-Authenticate says (RFC 6750).
    challenge: ClassVar[str] = "Bearer"


class BadKey(Unauthorized):
    """The request shows a key that is not known, has expired, or was revoked."""

    code = "bad_key"
    title = "The key is not good"
    challenge = 'Bearer error="invalid_token"'


class Forbidden(ServiceError):
    """The key is good, but not for this."""

    code = "insufficient_scope"
    title = "The key does not allow this"
    challenge: ClassVar[str] = 'Bearer error="insufficient_scope"'
