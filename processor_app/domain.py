"""An order at the processor: its states, what may be asked for, and how it stands in a record and a log.

    (open stream) ──▶ live ──complete──▶ completed ──open stream with a higher run──▶ live
                        └────cancel────▶ cancelled ──────────────┘

The log's entries are the order's events; their numbers go on over the runs of an order. The cleanup takes the log of an
order that ended long ago; such an order is ``pruned``, and its record says how it ended until that goes too. The steps
of this life are in `processor_app.steps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from service_kit.change import Body, Change, Entry, Message, Record, Ref, Snapshot, next_version
from service_kit.errors import Conflict, NotFound
from service_kit.origin import UNKNOWN, Origin, origin_of
from service_kit.values import value


class OrderState(StrEnum):
    """Where an order stands."""

    LIVE = "live"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    PRUNED = "pruned"


class Answer(StrEnum):
    """What a seller says to an order or a follow-up."""

    ACCEPTED = "accepted"
    DECLINED = "declined"
    MESSAGE = "message"


#: The ends of a run.
ENDS = (OrderState.COMPLETED, OrderState.CANCELLED)
FINISHED = (*ENDS, OrderState.PRUNED)

#: What the seller side may do in each state.
ALLOWED_ACTIONS: Mapping[OrderState, tuple[str, ...]] = {
    OrderState.LIVE: ("reply", "complete"),
    OrderState.COMPLETED: (),
    OrderState.CANCELLED: (),
    OrderState.PRUNED: (),
}


class OrderNotFound(NotFound):
    """No order has this id."""

    code = "order_not_found"
    title = "Unknown order"


class OrderFinished(Conflict):
    """The order is completed or cancelled and takes nothing more."""

    code = "order_finished"
    title = "The order is finished"


class RunEnded(Conflict):
    """The run that was named is not the order's present one."""

    code = "run_ended"
    title = "The run has ended"


class IdTaken(Conflict):
    """The id of a follow-up or a reply was used before with another content."""

    code = "id_taken"
    title = "The id is taken"


@value
class OpenStream:
    """A requestor's wish to hold the order's stream."""

    ref: Ref
    session_id: str
    notification_type: str
    audience: tuple[str, ...]
    details: Body | None
    token: int
    stream_id: str
    resume_after: int
    run: int
    #: The request that began the run.
    origin: Origin = UNKNOWN


@value
class FollowUp:
    """What the buyer adds to an order."""

    ref: Ref
    follow_up_id: str
    token: int
    audience: tuple[str, ...]
    message_type: str
    message: str
    urls: tuple[str, ...]
    added_ms: int
    origin: Origin = UNKNOWN


@value
class Close:
    """The end of an order by one side: ``end`` is the state it leads to, ``by`` is "buyer" or "seller"."""

    ref: Ref
    end: OrderState
    by: str
    reason: str = ""
    #: The fencing number of a requestor's claim; None for the seller side, which needs none.
    token: int | None = None
    #: The run to end; 0 for the present one.
    run: int = 0
    origin: Origin = UNKNOWN


@value
class Reply:
    """A seller's answer to the order, or to one follow-up when ``follow_up_id`` is not empty."""

    ref: Ref
    reply_id: str
    seller_id: str
    answer: Answer
    message: str = ""
    follow_up_id: str = ""
    #: The run that is answered; 0 for the present one.
    run: int = 0


@value
class Order:
    """An order as its record says it. ``run_start`` is the number of the last event before the present run.

    ``ended`` is how a pruned order ended; None for any other. ``kept_origin`` is the request that began
    the present run. ``holder`` is the processor that has the stream, when several share a store.
    """

    ref: Ref
    state: OrderState
    session_id: str
    notification_type: str
    audience: tuple[str, ...]
    details: Body | None
    token: int
    run: int
    created_ms: int
    run_start: int = 0
    head_seq: int = 0
    notes_count: int = 0
    updated_ms: int = 0
    ended: OrderState | None = None
    kept_origin: str = ""
    holder: str = ""

    @property
    def origin(self) -> Origin:
        """The request that began the present run."""
        return origin_of(self.kept_origin)

    @property
    def is_finished(self) -> bool:
        """Whether the order takes nothing more."""
        return self.state in FINISHED

    @property
    def allowed_actions(self) -> tuple[str, ...]:
        """What the seller side may do now."""
        return ALLOWED_ACTIONS[self.state]


def order_of(record: Record) -> Order:
    """Read an order from its record."""
    body = record.body
    return Order(
        ref=record.ref,
        state=OrderState(record.state),
        session_id=record.group,
        notification_type=body["notification_type"],
        audience=tuple(body["audience"]),
        details=body["details"],
        token=record.token,
        run=body["run"],
        created_ms=record.created_ms,
        run_start=body["run_start"],
        head_seq=body["head_seq"],
        notes_count=body["notes_count"],
        updated_ms=record.updated_ms,
        ended=OrderState(body["ended"]) if record.state == OrderState.PRUNED else None,
        kept_origin=body.get("origin", ""),
        holder=body.get("holder", ""),
    )


def change_of(
    before: Record | None,
    after: Order,
    now_ms: int,
    entries: Sequence[Entry] = (),
    *,
    puts: Sequence[Message] = (),
    forget_through: int = 0,
) -> Change:
    """The Change that makes ``after`` of what was stored."""
    record = Record(
        ref=after.ref,
        state=after.state,
        body={
            "notification_type": after.notification_type,
            "audience": after.audience,
            "details": after.details,
            "run": after.run,
            "run_start": after.run_start,
            "head_seq": after.head_seq,
            "notes_count": after.notes_count,
            **({} if after.ended is None else {"ended": after.ended}),
            "origin": after.kept_origin,
            **({"holder": after.holder} if after.holder else {}),
        },
        token=after.token,
        version=next_version(before),
        group=after.session_id,
        created_ms=after.created_ms,
        updated_ms=now_ms,
    )
    return Change(
        expect=None if before is None else before.version,
        record=record,
        entries=tuple(entries),
        puts=tuple(puts),
        forget_through=forget_through,
    )


def existing(snapshot: Snapshot) -> tuple[Record, Order]:
    """The order's record and what it says. Raises `OrderNotFound`."""
    if snapshot.record is None:
        raise OrderNotFound("No order has this id.")
    return snapshot.record, order_of(snapshot.record)


def event_of(order: Order, entry_id: str, kind: str, now_ms: int, body: Body) -> Entry:
    """The order's next event; every event carries the run that it belongs to."""
    return Entry(order.head_seq + 1, entry_id, kind, now_ms, {"run": order.run, **body})


def note_entry_id(follow_up_id: str) -> str:
    """The log's name of a follow-up."""
    return f"note:{follow_up_id}"


def reply_entry_id(reply_id: str) -> str:
    """The log's name of a seller's reply."""
    return f"reply:{reply_id}"


def end_entry_id(run: int) -> str:
    """The log's name of the end of a run."""
    return f"end:{run}"
