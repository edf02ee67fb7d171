"""Keeps what one trunk hands over for an order in its order, also when some of it cannot be taken just now."""

from __future__ import annotations

from typing import TypeAlias

from processor_app.rpc.messages import ref_of
from proto import order_service_pb2 as wire
from service_kit.change import Ref
from service_kit.errors import ServiceError, Unavailable

Request: TypeAlias = wire.OrderStreamRequest | wire.FollowUpRequest | wire.CloseOrderRequest


class Turns:
    """For each order, the sending of its inputs that has failed; nothing more of that one may be taken.

    A requestor sends on before it hears that an input must come again, and then begins again with the first that has
    no answer, in a new sending. Only the thread that reads the trunk may call this.
    """

    def __init__(self) -> None:
        self._failed: dict[Ref, int] = {}

    def is_due(self, request: Request) -> bool:
        """Whether the input may be taken now; if not, it must be refused as `Unavailable`."""
        failed = self._failed.get(ref_of(request))
        if failed is None or isinstance(request, wire.OrderStreamRequest) or not request.sending:
            return True
        if request.sending <= failed:
            return False
        del self._failed[ref_of(request)]
        return True

    def note(self, request: Request, refusal: ServiceError) -> None:
        """Remember the sending of an input that was refused, if it is to come again."""
        if isinstance(refusal, Unavailable) and not isinstance(request, wire.OrderStreamRequest) and request.sending:
            self._failed[ref_of(request)] = request.sending
