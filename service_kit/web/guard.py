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
from service_kit.change import DEFAULT_TENANT

View = TypeVar("View", bound=Callable[..., Any])

_ATTRIBUTE = "__door__"
#: Where the WSGI environment of a request says whom it acts for.
_PRINCIPAL_KEY = "order_communicator.principal"


@dataclass(frozen=True, slots=True)
class Door:
    """What a view asks for. Without a scope anybody may come in."""

    scope: Scope | None
    #: It tells of all tenants.
    is_whole: bool = False


def for_scope(scope: Scope, *, whole: bool = False) -> Callable[[View], View]:
    """Open a view for keys of this scope; one that tells of the ``whole`` service, for those of the first tenant."""

    def attach(view: View) -> View:
        setattr(view, _ATTRIBUTE, Door(scope, whole))
        return view

    return attach


def for_anybody(view: View) -> View:
    """Open a view for everybody."""
    setattr(view, _ATTRIBUTE, Door(None))
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


def sees_whole(principal: Principal | None) -> bool:
    """Whether it may see what tells of all tenants together: it runs the service, by a key of the first tenant."""
    return principal is not None and principal.tenant == DEFAULT_TENANT and Scope.OPERATE in principal.scopes


class Guard:
    """Looks at the key of every request."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def admit(self, request: Request, views: Mapping[str, object]) -> None:
        """Let the request act for its key. Raises `Unauthorized` or `Forbidden`; where nothing is, anybody may look."""
        if request.url_rule is None:
            return
        door = door_of(views.get(request.url_rule.endpoint))
        if door is not None and door.scope is None:
            self._look_at(request)
            return
        principal = self._keyring.verify(_token_of(request))
        if door is None:
            raise Forbidden("No key opens this.")
        if door.scope not in principal.scopes:
            raise Forbidden(f"This needs a key with the scope {door.scope}.")
        if door.is_whole and not sees_whole(principal):
            raise Forbidden(f"This tells of all tenants. It needs a key of the tenant {DEFAULT_TENANT}.")
        act_for(request, principal)

    def _look_at(self, request: Request) -> None:
        """Where no key is needed, one may be shown all the same; a bad one is the same as none."""
        if "HTTP_AUTHORIZATION" in request.environ:
            with suppress(Unauthorized):
                act_for(request, self._keyring.verify(_token_of(request)))


def _token_of(request: Request) -> str:
    header = request.environ.get("HTTP_AUTHORIZATION")
    if header is None:
        raise Unauthorized("Send a key in the header Authorization: Bearer oc_….")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("The header Authorization must be Bearer and a key.")
    return str(token)
