"""Keeps what one trunk hands over for an order in its order, also when some of it cannot be taken just now."""

from __future__ import annotations

from processor_app.domain import Close, FollowUp, OpenStream
from processor_app.orders import Input
from service_kit.change import Ref
from service_kit.errors import ServiceError, Unavailable


class Turns:
    """For each order, the first input that could not be taken; nothing that was sent behind it may overtake it.

    A requestor sends on before it hears that an input must come again, and then sends everything again that was not
    taken, the first one first. Only the thread that reads the trunk may call this.
    """

    def __init__(self) -> None:
        self._awaited: dict[Ref, str] = {}

    def is_due(self, item: Input) -> bool:
        """Whether the input may be taken now; what waits for another must be refused as `Unavailable`."""
        awaited = self._awaited.get(item.ref)
        if awaited is None or isinstance(item, OpenStream):
            return True
        if awaited != _name_of(item):
            return False
        del self._awaited[item.ref]
        return True

    def note(self, item: Input, refusal: ServiceError) -> None:
        """Remember an input that was refused, if it is to come again."""
        if isinstance(refusal, Unavailable) and not isinstance(item, OpenStream):
            self._awaited.setdefault(item.ref, _name_of(item))


def _name_of(item: FollowUp | Close) -> str:
    return f"note:{item.follow_up_id}" if isinstance(item, FollowUp) else f"close:{item.run}"
