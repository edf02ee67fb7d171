"""Which peers may call: those whose certificates bear an allowed name."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import grpc

from service_kit.logs import get_logger
from service_kit.measures import Tally
from service_kit.seldom import Seldom

_log = get_logger(__name__)
_PROBE_HEADER = "order-communicator-probe"


def refusal_tally() -> Tally:
    """Counts calls that were not let through, by why."""
    return Tally("reason", known=[("name",), ("no_certificate",)])


class PeerInterceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs alone
    """Lets no call through whose peer is not on the list: each service is behind it, health and reflection too.

    The one exception is the server's own probe. It comes by a plain port of the loopback interface with a pass that
    nobody outside this process knows.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = frozenset(name.lower() for name in allowed)
        self._pass = secrets.token_urlsafe(32)
        self._seldom = Seldom()
        #: Calls that were not let through, by why.
        self.refused = refusal_tally()

    @property
    def probe_metadata(self) -> tuple[tuple[str, str], ...]:
        """What lets the probe through."""
        return ((_PROBE_HEADER, self._pass),)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Put the check before the method's behaviour, where the peer is known."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        arguments = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._before(handler.unary_unary), **arguments)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._before_stream(handler.unary_stream), **arguments)
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(self._before_stream(handler.stream_stream), **arguments)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(self._before(handler.stream_unary), **arguments)
        return None

    def _before(self, behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            self._check(context)
            return behaviour(request, context)

        return call

    def _before_stream(self, behaviour: Callable[[Any, Any], Iterator[Any]]) -> Callable[[Any, Any], Iterator[Any]]:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            self._check(context)
            yield from behaviour(request, context)

        return call

    def _check(self, context: grpc.ServicerContext) -> None:
        # The stubs say bytes; it is a sequence of them.
        authentication = cast("Mapping[str, Sequence[bytes]]", context.auth_context())
        if authentication.get("transport_security_type") != [b"ssl"]:
            shown = dict(context.invocation_metadata()).get(_PROBE_HEADER, "")
            if hmac.compare_digest(str(shown).encode(), self._pass.encode()):
                return
            self._refuse(context, "no_certificate", grpc.StatusCode.UNAUTHENTICATED, ())
        names = names_of(authentication)
        if self._allowed.isdisjoint(name.lower() for name in names):
            self._refuse(context, "name", grpc.StatusCode.PERMISSION_DENIED, names)

    def _refuse(self, context: grpc.ServicerContext, reason: str, code: grpc.StatusCode, names: Sequence[str]) -> None:
        self.refused.add(reason)
        shown = [name[:100] for name in names[:5]]
        if self._seldom.may_tell(f"{reason} {shown}"):
            _log.warning("Refused a peer that is not allowed", action="grpc.peer_refused", reason=reason, names=shown)
        context.abort(code, "this peer is not allowed")


def names_of(authentication: Mapping[str, Sequence[bytes]]) -> list[str]:
    """The host names of a peer's certificate; its common name only when it has none, as RFC 6125 has it."""
    names = authentication.get("peer_dns") or authentication.get("x509_common_name") or ()
    return [name.decode("utf-8", "replace") for name in names]
