"""The entries of the seller directory, and the steps of their life as pure functions ``(snapshot, input) -> Change``.

    (put) ──▶ registered ──remove──▶ removed ──put──▶ registered

A seller is a record of its own with a log of who changed what, under a tenant that no caller can name: ids have no
slash. A removed entry keeps nothing but its log until the cleanup takes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from processor_app.delivery.channel import Seller
from service_kit.change import Body, Change, Entry, Record, Ref, Snapshot, next_version
from service_kit.errors import Conflict, NotFound

#: How many webhook secrets are valid at a time: the newest, and the one before while the receiver changes over.
LIVE_SECRETS = 2

OPERATOR = "operator"
PROCESSOR = "processor"


class _Deed(NamedTuple):
    """What was done to an entry, and by whom, as its log says it."""

    kind: str
    by: str
    body: Body = MappingProxyType({})


class SellerState(StrEnum):
    """Where an entry stands."""

    REGISTERED = "registered"
    REMOVED = "removed"


class SellerNotFound(NotFound):
    """The directory has no seller with this id."""

    code = "seller_not_found"
    title = "Unknown seller"


class NoWebhook(Conflict):
    """The seller has no webhook, so there is no secret."""

    code = "no_webhook"
    title = "The seller has no webhook"


@dataclass(frozen=True, slots=True)
class SellerWish:
    """What an entry is to say."""

    name: str
    email: str
    webhook_url: str
    channels: tuple[str, ...]
    language: str


@dataclass(frozen=True, slots=True)
class SellerEntry:
    """An entry of the directory with its times."""

    seller: Seller
    created_ms: int
    updated_ms: int


def seller_ref(tenant: str, seller_id: str) -> Ref:
    """The name of a seller's record."""
    return Ref(directory_of(tenant), seller_id)


def directory_of(tenant: str) -> str:
    """The tenant under which the sellers of a tenant stand."""
    return f"{tenant}/sellers"


def entry_of(record: Record) -> SellerEntry:
    """Read an entry from its record."""
    body = record.body
    seller = Seller(
        seller_id=record.ref.key,
        name=body["name"],
        email=body["email"],
        webhook_url=body["webhook_url"],
        channels=tuple(body["channels"]),
        language=body["language"],
        webhook_secrets=tuple(body["webhook_secrets"]),
        webhook_disabled=body["webhook_disabled"],
    )
    return SellerEntry(seller, record.created_ms, record.updated_ms)


def seller_of(record: Record | None) -> Seller | None:
    """The seller of a record; None when there is none, or not any more."""
    return entry_of(record).seller if record is not None and record.state == SellerState.REGISTERED else None


def put(snapshot: Snapshot, ref: Ref, wish: SellerWish, secret: str, *, now_ms: int) -> Change | None:
    """Register a seller, or replace what its entry says; None when it says so already.

    A URL that is new gets the secret, and one that is put is tried again if it was disabled.
    """
    old = seller_of(snapshot.record)
    secrets: tuple[str, ...] = ()
    if wish.webhook_url:
        keeps = old is not None and old.webhook_url == wish.webhook_url
        secrets = old.webhook_secrets if old is not None and keeps else (secret,)
    new = Seller(
        seller_id=ref.key,
        name=wish.name,
        email=wish.email,
        webhook_url=wish.webhook_url,
        channels=wish.channels,
        language=wish.language,
        webhook_secrets=secrets,
    )
    if old is None:
        return _change(snapshot, ref, new, _Deed("registered", OPERATOR), now_ms)
    fields = [name for name in _PUBLIC if getattr(old, name) != getattr(new, name)]
    return _change(snapshot, ref, new, _Deed("changed", OPERATOR, {"fields": fields}), now_ms) if fields else None


_PUBLIC = ("name", "email", "webhook_url", "channels", "language", "webhook_disabled")


def rotate_secret(snapshot: Snapshot, secret: str, *, now_ms: int) -> Change:
    """Give the webhook a new secret; the one before stays valid. Raises `SellerNotFound` or `NoWebhook`."""
    ref, seller = _existing(snapshot)
    if not seller.webhook_url:
        raise NoWebhook("The seller has no webhook URL, so there is no secret to rotate.")
    rotated = replace(seller, webhook_secrets=(secret, *seller.webhook_secrets)[:LIVE_SECRETS])
    return _change(snapshot, ref, rotated, _Deed("secret_rotated", OPERATOR), now_ms)


def disable_webhook(snapshot: Snapshot, webhook_url: str, reason: str, *, now_ms: int) -> Change | None:
    """Send nothing more to this URL until somebody puts one; None when the entry has another by now."""
    seller = seller_of(snapshot.record)
    if snapshot.record is None or seller is None or seller.webhook_url != webhook_url or seller.webhook_disabled:
        return None
    disabled = replace(seller, webhook_disabled=reason)
    deed = _Deed("webhook_disabled", PROCESSOR, {"reason": reason})
    return _change(snapshot, snapshot.record.ref, disabled, deed, now_ms)


def remove(snapshot: Snapshot, *, now_ms: int) -> Change:
    """Take the entry out of the directory, with all that it says about the seller. Raises `SellerNotFound`."""
    ref, _ = _existing(snapshot)
    return _change(snapshot, ref, None, _Deed("removed", OPERATOR), now_ms)


def _existing(snapshot: Snapshot) -> tuple[Ref, Seller]:
    seller = seller_of(snapshot.record)
    if snapshot.record is None or seller is None:
        raise SellerNotFound("The directory has no seller with this id.")
    return snapshot.record.ref, seller


def _change(snapshot: Snapshot, ref: Ref, seller: Seller | None, deed: _Deed, now_ms: int) -> Change:
    """The Change to an entry and its log; no seller means that it is removed."""
    before = snapshot.record
    head = 1 if before is None else before.body["head"] + 1
    record = Record(
        ref=ref,
        state=SellerState.REMOVED if seller is None else SellerState.REGISTERED,
        body={"head": head, **({} if seller is None else _body_of(seller))},
        version=next_version(before),
        created_ms=before.created_ms if before is not None and seller_of(before) is not None else now_ms,
        updated_ms=now_ms,
    )
    entry = Entry(head, f"{deed.kind}:{head}", deed.kind, now_ms, {"by": deed.by, **deed.body})
    return Change(None if before is None else before.version, record, (entry,))


def _body_of(seller: Seller) -> dict[str, Any]:
    return {
        "name": seller.name,
        "email": seller.email,
        "webhook_url": seller.webhook_url,
        "channels": list(seller.channels),
        "language": seller.language,
        "webhook_secrets": list(seller.webhook_secrets),
        "webhook_disabled": seller.webhook_disabled,
    }
