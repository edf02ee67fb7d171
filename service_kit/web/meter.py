"""Counts the requests of each key and of each address, and tells who must wait."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from flask import Request

from service_kit.access.model import Principal
from service_kit.errors import RateExceeded
from service_kit.rates import Budget, RateLimit
from service_kit.web.callers import client_address
from service_kit.web.places import origin_of
from service_kit.web.refusals import Refusal, refusal_of

#: The limits where keys are needed and nothing else is set.
KEY_RATE, ADDRESS_RATE = 500, 1_000
#: A key that is not good weighs as much as so many requests: who tries keys out soon has to wait.
BAD_KEY_COST = 20
#: Asked by who watches the service, and never refused for being asked often.
_FREE = "/livez"
_DETAIL = "More requests came than may in this time. Nothing was accepted; send it again after Retry-After seconds."


class MeterSettings(Protocol):
    """What a service sets."""

    @property
    def require_keys(self) -> bool:
        """Whether calls need a key."""

    @property
    def key_rate(self) -> int | None:
        """Requests a second of one key."""

    @property
    def address_rate(self) -> int | None:
        """Requests a second of one address."""


class Meter:
    """The two limits of a service."""

    def __init__(self, settings: MeterSettings, *, shared: Budget | None = None) -> None:
        def rate(wanted: int | None, usual: int) -> int:
            return wanted if wanted is not None else usual if settings.require_keys else 0

        self.keys = RateLimit("key", rate(settings.key_rate, KEY_RATE), shared=shared)
        self.addresses = RateLimit("address", rate(settings.address_rate, ADDRESS_RATE), shared=shared)

    @property
    def is_on(self) -> bool:
        """Whether anybody is counted."""
        return self.keys.is_on or self.addresses.is_on

    def limited(self) -> dict[str, float]:
        """How often somebody was told to wait, by what was counted."""
        return {"key": self.keys.limited, "address": self.addresses.limited}

    def count_address(self, request: Request) -> None:
        """Count a request for its address, before its key is looked at. Raises `RateExceeded`."""
        if request.path != _FREE:
            self._check(self.addresses.spend(_name_of(client_address(request.environ))))

    def count_key(self, principal: Principal | None) -> None:
        """Count a request for its key, if it has shown one. Raises `RateExceeded`."""
        if principal is not None and principal.key_id:
            self._check(self.keys.spend(principal.key_id))

    def count_bad_key(self, request: Request) -> None:
        """Count a key that was refused for its address."""
        self.addresses.charge(_name_of(client_address(request.environ)), BAD_KEY_COST)

    def refusal_for(self, address: str, path: str) -> Refusal | None:
        """What an address is answered with that was told to wait and has not; it costs next to nothing."""
        wait_s = self.addresses.refused_for(_name_of(address)) if path != _FREE else 0
        return _refusal(wait_s) if wait_s else None

    @staticmethod
    def _check(wait_s: int) -> None:
        if wait_s:
            raise RateExceeded(_DETAIL, retry_after_s=wait_s)


def _name_of(address: str) -> str:
    return origin_of(address) or "this machine"


@lru_cache(maxsize=64)
def _refusal(wait_s: int) -> Refusal:
    return refusal_of(RateExceeded, _DETAIL, wait_s=wait_s)
