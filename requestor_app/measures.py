"""What is counted of orders and of what travels to and from the processor, as it happens."""

from __future__ import annotations

from collections.abc import Iterable

from requestor_app.domain import CLOSE, FOLLOW_UP, close_message_id
from requestor_app.traffic import Refusal
from service_kit.change import Change
from service_kit.measures import Histogram, Tally

_RELAYED_KINDS = (FOLLOW_UP, CLOSE)
_CLOSE_PREFIX = close_message_id(0)[:-1]


class RequestorMeasures:
    """Counts what buyers hand in, what has reached the processor, and how long the processor takes."""

    def __init__(self) -> None:
        self.accepted = Tally("kind", known=[("order",), *((kind,) for kind in _RELAYED_KINDS)])
        self.relayed = Tally("kind", known=[(kind,) for kind in _RELAYED_KINDS])
        #: What the processor will never take.
        self.set_aside = Tally("kind", known=[(kind,) for kind in _RELAYED_KINDS])
        self.refused_streams = Tally("refusal", known=[(str(refusal),) for refusal in Refusal])
        self.lost_trunks = Tally()
        #: From asking for a stream until it is open.
        self.open_times = Histogram()
        #: From the arrival of a message of the processor until it is on disk.
        self.apply_times = Histogram()
        self.takeovers = Tally()
        self.takeover_seconds = Tally()

    def note_answers(self, change: Change) -> None:
        """Count the messages that are through, and those that are set aside."""
        _count(self.relayed, change.settles)
        _count(self.set_aside, [message.message_id for message in change.puts])


def _count(tally: Tally, message_ids: Iterable[str]) -> None:
    for message_id in message_ids:
        tally.add(CLOSE if message_id.startswith(_CLOSE_PREFIX) else FOLLOW_UP)
