"""Who may call what: the one place at which every request is looked at, after it is routed and before anything is done.

A view says which key opens it, by `for_scope`, or that none is needed, by `for_anybody` (`operation` does it for
documented ones). One that says nothing is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Request, request

from service_kit.access.keyring import Keyring
from service_kit.access.model import Forbidden, Principal, Scope, Unauthorized
from service_kit.access.sessions import Session, Sessions
from service_kit.change import DEFAULT_TENANT
from service_kit.web.callers import is_by_https
from service_kit.web.problems import Forged

View = TypeVar("View", bound=Callable[..., Any])

_ATTRIBUTE = "__door__"
#: Where the WSGI environment of a request says whom it acts for.
_PRINCIPAL_KEY = "order_communicator.principal"
#: And the session that it belongs to.
_SESSION_KEY = "order_communicator.session"
#: Scopes for those who run the service: what is done by them is audited. An order's own log tells of the others.
_AUDITED = frozenset({Scope.SELLERS_WRITE, Scope.OPERATE})
#: Methods that change nothing.
READING = frozenset({"GET", "HEAD", "OPTIONS"})
#: The blueprint of the operator page: a session opens its routes, and no others.
CONSOLE = "console"
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf_token"


@dataclass(frozen=True, slots=True)
class Door:
    """What a view asks for. Without a scope anybody may come in."""

    scope: Scope | None
    #: It tells of all tenants.
    is_whole: bool = False
    #: What is done here stands in the audit log.
    is_audited: bool = False


def for_scope(scope: Scope, *, whole: bool = False) -> Callable[[View], View]:
    """Open a view for keys of this scope; one that tells of the ``whole`` service, for those of the first tenant."""

    def attach(view: View) -> View:
        setattr(view, _ATTRIBUTE, Door(scope, whole, scope in _AUDITED))
        return view

    return attach


def for_anybody(view: View) -> View:
    """Open a view for everybody."""
    setattr(view, _ATTRIBUTE, Door(None))
    return view


def for_strangers(view: View) -> View:
    """Open a view for everybody, and keep in the audit log what is done there."""
    setattr(view, _ATTRIBUTE, Door(None, is_audited=True))
    return view


def door_of(view: object) -> Door | None:
    """What a view asks for; None when it says nothing."""
    return getattr(view, _ATTRIBUTE, None)


def act_for(request: Request, principal: Principal) -> None:
    """Let the request act for this principal."""
    request.environ[_PRINCIPAL_KEY] = principal


def current_principal() -> Principal:
    """Whom the current request acts for. Raises `Unauthorized` where the view asks for no key, and keys are needed."""
    principal = optional_principal()
    if principal is None:
        raise Unauthorized
    return principal


def optional_principal() -> Principal | None:
    """Whom the current request acts for; None where it shows no good key, and none is needed."""
    principal: Principal | None = request.environ.get(_PRINCIPAL_KEY)
    return principal


def current_session() -> Session | None:
    """The session that the current request belongs to; None when it came with a key, or needs none."""
    session: Session | None = request.environ.get(_SESSION_KEY)
    return session


def session_cookie_name(sessions: Sessions, environ: Mapping[str, Any]) -> str:
    """What the session's cookie is called; over HTTPS so that a browser takes it from this host alone."""
    return f"__Host-{sessions.cookie_name}" if is_by_https(environ) else sessions.cookie_name


def sees_whole(principal: Principal | None) -> bool:
    """Whether it may see what tells of all tenants together: it runs the service, by a key of the first tenant."""
    return principal is not None and principal.tenant == DEFAULT_TENANT and Scope.OPERATE in principal.scopes


class Guard:
    """Looks at the key of every request, and at the operator page also at sessions."""

    def __init__(self, keyring: Keyring, sessions: Sessions | None = None) -> None:
        self._keyring = keyring
        self._sessions = sessions

    def admit(self, request: Request, views: Mapping[str, object]) -> None:
        """Let the request act for its key. Raises `Unauthorized` or `Forbidden`; where nothing is, anybody may look."""
        if request.url_rule is None:
            return
        door = door_of(views.get(request.url_rule.endpoint))
        if door is not None and door.scope is None:
            self._look_at(request)
            return
        principal = self._principal_of(request)
        act_for(request, principal)  # from here on it is known who is refused
        if door is None:
            raise Forbidden("No key opens this.")
        if door.scope not in principal.scopes:
            raise Forbidden(f"This needs a key with the scope {door.scope}.")
        if door.is_whole and not sees_whole(principal):
            raise Forbidden(f"This tells of all tenants. It needs a key of the tenant {DEFAULT_TENANT}.")

    def _principal_of(self, request: Request) -> Principal:
        """Whom the key stands for, or the session that a key has begun."""
        is_at_console = request.blueprint == CONSOLE
        if self._sessions is None or not is_at_console or "HTTP_AUTHORIZATION" in request.environ:
            return self._keyring.verify(_token_of(request))
        cookie = request.cookies.get(session_cookie_name(self._sessions, request.environ), "")
        session, principal = self._sessions.read(cookie)
        request.environ[_SESSION_KEY] = session
        if request.method not in READING and not self._sessions.is_csrf_token(session, _csrf_token_of(request)):
            act_for(request, principal)
            raise Forged("This page belongs to another session, or to none: load it again.")
        return principal

    def _look_at(self, request: Request) -> None:
        """Where no key is needed, one may be shown all the same; a bad one is the same as none."""
        if "HTTP_AUTHORIZATION" in request.environ:
            with suppress(Unauthorized):
                act_for(request, self._keyring.verify(_token_of(request)))


def _csrf_token_of(request: Request) -> str:
    """What the page's script puts in a header, and a form without script in a field."""
    token = request.headers.get(CSRF_HEADER)
    if token is None and request.mimetype == "application/x-www-form-urlencoded":
        token = request.form.get(CSRF_FIELD)
    return token or ""


def _token_of(request: Request) -> str:
    header = request.environ.get("HTTP_AUTHORIZATION")
    if header is None:
        raise Unauthorized("Send a key in the header Authorization: Bearer oc_….")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("The header Authorization must be Bearer and a key.")
    return str(token)
