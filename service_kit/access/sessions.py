"""Sessions of the operator page: a key was shown once, and the browser holds a signed cookie in its place.

The cookie says itself whose it is, so nothing is stored for a session but that it was ended. Its key is looked at anew
for every request: a session is never better than its key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from itsdangerous import BadData, Signer, URLSafeSerializer

from service_kit.access.keyring import Keyring
from service_kit.access.model import AccessStore, BadKey, Principal, Scope, Unauthorized

#: A session ends so long after it began, whatever happens in it.
LIFETIME_S = 8 * 3_600
#: And so long after the last request. A page that nobody sees asks for nothing.
IDLE_S = 3_600
#: The cookie is written anew when its last use is so long ago.
RENEW_S = 300
#: Names the form of a cookie: another form gets another salt, and none is read as what it is not.
_SALT, _CSRF_SALT = "operator-session-1", "operator-csrf-1"
_DIGEST = {"key_derivation": "hmac", "digest_method": hashlib.sha256}


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that has shown a key."""

    session_id: str
    key_id: str
    begun_s: int
    used_s: int


class SessionOver(Unauthorized):
    """There is no session, or not any more."""

    code = "session_over"
    title = "Sign in"


class SignInRefused(Unauthorized):
    """The key that was shown does not open the operator page."""

    code = "sign_in_refused"
    title = "This key does not open the page"


class Sessions:
    """Begins, reads and ends the sessions of one service."""

    def __init__(
        self, store: AccessStore, keyring: Keyring, *, service: str, clock: Callable[[], float] = time.time
    ) -> None:
        #: What the cookie is called. Services on one host have names of their own: a cookie knows no port.
        self.cookie_name = f"oc_session_{service}"
        self._store = store
        self._keyring = keyring
        self._clock = clock

    def sign_in(self, token: str) -> tuple[Session, Principal]:
        """A new session of who shows a key. Raises `SignInRefused`, which does not tell why."""
        try:
            principal = self._keyring.verify(token)
        except BadKey:
            raise SignInRefused from None
        if Scope.OPERATE not in principal.scopes:
            raise SignInRefused
        now_s = int(self._clock())
        return Session(secrets.token_urlsafe(18), principal.key_id, now_s, now_s), principal

    def cookie_of(self, session: Session) -> str:
        """What the browser holds."""
        return str(self._serializer.dumps([session.session_id, session.key_id, session.begun_s, session.used_s]))

    def read(self, cookie: str) -> tuple[Session, Principal]:
        """The session of a cookie, and whom it acts for. Raises `SessionOver`."""
        try:
            session = Session(*self._serializer.loads(cookie))
        except (BadData, TypeError):
            raise SessionOver("Sign in first.") from None
        now_s = self._clock()
        if now_s >= session.begun_s + LIFETIME_S or now_s >= session.used_s + IDLE_S:
            raise SessionOver("The session is over: sign in again.")
        principal = self._keyring.principal_of(session.key_id)
        if principal is None or self._store.has_ended(session.session_id):
            raise SessionOver("The session was ended: sign in again.")
        return session, principal

    def name_of(self, session: Session) -> str:
        """What the session's key is called."""
        return self._keyring.name_of(session.key_id) or session.key_id

    def renewed(self, session: Session) -> Session | None:
        """The session as used just now, when that is worth a new cookie."""
        now_s = int(self._clock())
        return replace(session, used_s=now_s) if now_s - session.used_s >= RENEW_S else None

    def end(self, session: Session) -> None:
        """End a session: its cookie is worth nothing from now on, whoever has a copy."""
        self._store.end_session(session.session_id, (session.begun_s + LIFETIME_S) * 1_000)

    def csrf_token_of(self, session: Session) -> str:
        """What the session's own pages alone can send."""
        return self._csrf_signer.get_signature(session.session_id).decode("ascii")

    def is_csrf_token(self, session: Session, token: str) -> bool:
        """Whether a page of this session has sent it."""
        return hmac.compare_digest(self.csrf_token_of(session).encode(), token.encode("utf-8", "replace"))

    @cached_property
    def _serializer(self) -> URLSafeSerializer:
        return URLSafeSerializer(self._secret, salt=_SALT, signer_kwargs=_DIGEST)

    @cached_property
    def _csrf_signer(self) -> Signer:
        return Signer(self._secret, salt=_CSRF_SALT, key_derivation="hmac", digest_method=hashlib.sha256)

    @cached_property
    def _secret(self) -> str:
        return self._store.secret()
