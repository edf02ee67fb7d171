"""The keys of a running service: kept in memory, looked at anew once a second; their last use is written in batches."""

from __future__ import annotations

import hmac
import threading
import time

from service_kit.access.keys import digest_of
from service_kit.access.model import AccessStore, ApiKey, BadKey, Principal
from service_kit.background import Background
from service_kit.errors import ServiceError
from service_kit.logs import get_logger
from service_kit.times import now_ms

#: Between two looks at what has changed: a revoked key is dead within it.
EVERY_S = 1.0
#: So many looks a second for keys that are not known yet, however many strangers knock; and how long one waits for it.
STRANGERS, STRANGER_WAITS_S = 10, 0.05
#: Between two writes of when keys were used last.
USES_S = 10.0
#: What the secret of a key that is not known is compared with.
_NO_DIGEST = digest_of("")

_log = get_logger(__name__)


class Keyring(Background):
    """Tells whom a token stands for. Any thread may ask, before the start as well.

    While the access store does not answer, the keys that are known stay good, and `check` tells.
    """

    name = "keyring"
    not_running = "nobody looks for revoked keys"

    def __init__(self, store: AccessStore, *, every_s: float = EVERY_S) -> None:
        super().__init__()
        self._store = store
        self._every_s = every_s
        #: Guards looks at the store: one at a time.
        self._looking = threading.Lock()
        #: In this second so many more looks for strangers.
        self._strangers_left = 0
        self._strangers_from_s = float("-inf")
        self._version = -1
        self._keys: dict[str, tuple[ApiKey, Principal]] = {}
        #: When each key was used last, and what of that is written. The first grows in any thread.
        self._used: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._failure: str | None = None

    def start(self) -> None:
        """Read the keys, and begin. Raises `StoreUnavailable`."""
        with self._looking:
            self._look()
        at_ms = now_ms()
        if all(_fault_of(key, at_ms) is not None for key, _ in self._keys.values()):
            _log.warning("There is no key that is good: make one with the command `keys create`", action="keys.none")
        super().start()

    def check(self) -> str | None:
        """None while the keys are known as they are."""
        return super().check() or self._failure

    def verify(self, token: str) -> Principal:
        """Whom a token stands for. Raises `BadKey`; why a key is no longer good is told to who has its secret alone."""
        _, _, rest = token.partition("_")
        key_id, _, secret = rest.partition("_")
        known = self._keys.get(key_id) or self._look_for(key_id)
        is_right = hmac.compare_digest(digest_of(secret), _NO_DIGEST if known is None else known[0].digest)
        if known is None or not is_right or not token.startswith("oc_"):
            raise BadKey("This key is not known.")
        key, principal = known
        at_ms = now_ms()
        fault = _fault_of(key, at_ms)
        if fault is not None:
            raise BadKey(fault)
        self._used[key_id] = at_ms
        return principal

    def principal_of(self, key_id: str) -> Principal | None:
        """Whom a key stands for that was shown before; None when it is no longer good."""
        known = self._keys.get(key_id) or self._look_for(key_id)
        at_ms = now_ms()
        if known is None or _fault_of(known[0], at_ms) is not None:
            return None
        self._used[key_id] = at_ms
        return known[1]

    def name_of(self, key_id: str) -> str:
        """What a key is called; nothing when it is not known."""
        known = self._keys.get(key_id)
        return "" if known is None else known[0].name

    # ---- the store

    def _look_for(self, key_id: str) -> tuple[ApiKey, Principal] | None:
        """A key that may have been made within the last second."""
        if self._looking.acquire(timeout=STRANGER_WAITS_S):
            try:
                now_s = time.monotonic()
                if now_s - self._strangers_from_s >= 1.0:
                    self._strangers_left, self._strangers_from_s = STRANGERS, now_s
                if self._strangers_left and key_id not in self._keys:
                    self._strangers_left -= 1
                    self._refresh()
            finally:
                self._looking.release()
        return self._keys.get(key_id)

    def _refresh(self) -> None:
        try:
            self._look()
        except ServiceError as error:
            if self._failure is None:
                _log.error("Keys cannot be looked at", action="keys.unreadable", reason=error.detail)
            self._failure = "keys cannot be looked at"

    def _look(self) -> None:
        version = self._store.version()  # first: what changes between the two is seen the next time
        if version != self._version:
            keys = self._store.keys()
            self._keys = {key.key_id: (key, _principal_of(key)) for key in keys}
            self._version = version
        self._failure = None

    def _write_uses(self) -> None:
        used = self._used.copy()
        news = {key_id: at_ms for key_id, at_ms in used.items() if self._written.get(key_id) != at_ms}
        if not news:
            return
        try:
            self._store.touch(news)
        except ServiceError as error:
            _log.warning("The last use of keys was not kept", action="keys.use_not_kept", reason=error.detail)
            return
        self._written = used

    def _run(self) -> None:
        next_write_s = time.monotonic() + USES_S
        while not self._stopping.wait(self._every_s):
            with self._looking:
                self._refresh()
            if time.monotonic() >= next_write_s:
                self._write_uses()
                next_write_s = time.monotonic() + USES_S
        self._write_uses()


def _principal_of(key: ApiKey) -> Principal:
    return Principal(key.tenant, key.scopes, key.key_id, key.seller_id)


def _fault_of(key: ApiKey, at_ms: int) -> str | None:
    if key.revoked_ms is not None:
        return "This key was revoked."
    if key.expires_ms is not None and at_ms >= key.expires_ms:
        return "This key has expired."
    return None
