"""An order's life at the processor, as pure functions ``(snapshot, input) -> Change``.

    (open stream) ──▶ live ──complete──▶ completed ──open stream with a higher run──▶ live
                        └────cancel────▶ cancelled ──────────────┘

The log's entries are the order's events; their numbers go on over the runs of an order. The cleanup takes the log of an
order that ended long ago; such an order is ``pruned``, and its record says how it ended until that goes too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from service_kit.change import Body, Change, Entry, Record, Ref, Snapshot, next_version
from service_kit.errors import Conflict, Diverged, Fenced, NotFound, Pruned


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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Reply:
    """A seller's answer to the order, or to one follow-up when ``follow_up_id`` is not empty."""

    ref: Ref
    reply_id: str
    seller_id: str
    answer: Answer
    message: str = ""
    follow_up_id: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """An order as its record says it. ``run_start`` is the number of the last event before the present run.

    ``ended`` is how a pruned order ended; None for any other.
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
    )


def _change(
    before: Record | None, after: Order, now_ms: int, entries: Sequence[Entry] = (), *, forget_through: int = 0
) -> Change:
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
        forget_through=forget_through,
    )


def _existing(snapshot: Snapshot) -> tuple[Record, Order]:
    if snapshot.record is None:
        raise OrderNotFound("No order has this id.")
    return snapshot.record, order_of(snapshot.record)


def _event(order: Order, entry_id: str, kind: str, now_ms: int, body: Body) -> Entry:
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


def open_stream(snapshot: Snapshot, wish: OpenStream, *, now_ms: int) -> Change | None:
    """Let a requestor's claim hold the order; creates the order, or begins its next run; None when nothing changes.

    Raises `Fenced` for a token or run below the highest seen, `Diverged` when the requestor knows more than is here,
    and `Pruned` when it asks for events that are no longer kept.
    """
    before = snapshot.record
    if before is None:
        return _begin_run(None, None, wish, now_ms)
    order = order_of(before)
    if wish.token < order.token or wish.run < order.run:
        raise Fenced("A newer owner holds this order.", highest_token=order.token)
    if wish.run > order.run:
        return _begin_run(before, order, wish, now_ms)
    if wish.resume_after > order.head_seq:
        raise Diverged("The requestor has events that this processor does not know.")
    if order.ended is not None and wish.resume_after < order.head_seq:
        raise Pruned(
            "The events of this order are no longer kept.",
            ended=str(order.ended),
            run=order.run,
            head_seq=order.head_seq,
        )
    if wish.token == order.token:
        return None
    return _change(before, replace(order, token=wish.token), now_ms)


def _begin_run(before: Record | None, old: Order | None, wish: OpenStream, now_ms: int) -> Change:
    if wish.resume_after > 0:
        raise Diverged("The requestor has events of a run that this processor does not know.")
    head_seq = 0 if old is None else old.head_seq
    order = Order(
        ref=wish.ref,
        state=OrderState.LIVE,
        session_id=wish.session_id,
        notification_type=wish.notification_type,
        audience=wish.audience,
        details=wish.details,
        token=wish.token,
        run=wish.run,
        created_ms=now_ms if old is None else old.created_ms,
        run_start=head_seq,
        head_seq=head_seq,
        notes_count=0 if old is None else old.notes_count,
    )
    body = {"notification_type": wish.notification_type, "audience": list(wish.audience)}
    entry = _event(order, f"run:{wish.run}", "accepted", now_ms, body)
    return _change(before, replace(order, head_seq=entry.seq), now_ms, [entry])


def accept_follow_up(snapshot: Snapshot, note: FollowUp, *, now_ms: int) -> Change | None:
    """Keep a note as an event; None when the same note is there already.

    Raises `OrderNotFound`, `Fenced`, `OrderFinished` or `IdTaken`.
    """
    before, order = _existing(snapshot)
    _check_token(order, note.token)
    body = {
        "follow_up_id": note.follow_up_id,
        "audience": list(note.audience),
        "message_type": note.message_type,
        "message": note.message,
        "urls": list(note.urls),
        "added_ms": note.added_ms,
    }
    entry_id = note_entry_id(note.follow_up_id)
    if _is_repeated(snapshot, entry_id, body):
        return None
    _refuse_finished(order)
    entry = _event(order, entry_id, "follow_up_accepted", now_ms, body)
    return _change(before, replace(order, head_seq=entry.seq, notes_count=order.notes_count + 1), now_ms, [entry])


def accept_reply(snapshot: Snapshot, reply: Reply, *, now_ms: int) -> Change | None:
    """Keep a seller's reply as an event; None when the same reply is there already."""
    before, order = _existing(snapshot)
    body = {
        "reply_id": reply.reply_id,
        "seller_id": reply.seller_id,
        "answer": str(reply.answer),
        "message": reply.message,
        "follow_up_id": reply.follow_up_id,
    }
    entry_id = reply_entry_id(reply.reply_id)
    if _is_repeated(snapshot, entry_id, body):
        return None
    _refuse_finished(order)
    entry = _event(order, entry_id, "seller_replied", now_ms, body)
    return _change(before, replace(order, head_seq=entry.seq), now_ms, [entry])


def close(snapshot: Snapshot, wish: Close, *, now_ms: int) -> Change | None:
    """End the order's run; None when it ended that way already.

    Raises `OrderFinished` when it ended the other way, or `RunEnded` when a later run has begun since.
    """
    before, order = _existing(snapshot)
    if wish.token is not None:
        _check_token(order, wish.token)
    if wish.run not in (0, order.run):
        end = snapshot.entries.get(end_entry_id(wish.run))
        if end is not None and end.kind == wish.end:
            return None
        raise RunEnded("The run to be ended is not the present one.")
    if wish.end in (order.state, order.ended):
        return None
    _refuse_finished(order)
    entry = _event(order, end_entry_id(order.run), str(wish.end), now_ms, {"by": wish.by, "reason": wish.reason})
    return _change(before, replace(order, state=wish.end, head_seq=entry.seq), now_ms, [entry])


def prune(snapshot: Snapshot, *, before_ms: int, now_ms: int) -> Change | None:
    """Drop the log of an order that ended before the time; None when there is no such order."""
    if snapshot.record is None:
        return None
    before, order = _existing(snapshot)
    if order.state not in ENDS or order.updated_ms >= before_ms:
        return None
    after = replace(order, state=OrderState.PRUNED, ended=order.state, audience=(), details=None)
    return _change(before, after, now_ms, forget_through=order.head_seq)


def _check_token(order: Order, token: int) -> None:
    if token < order.token:
        raise Fenced("A newer owner holds this order.", highest_token=order.token)


def _is_repeated(snapshot: Snapshot, entry_id: str, body: Body) -> bool:
    known = snapshot.entries.get(entry_id)
    if known is None:
        return False
    if {key: value for key, value in known.body.items() if key != "run"} != body:
        raise IdTaken("This id was used before with another content.")
    return True


def _refuse_finished(order: Order) -> None:
    if order.is_finished:
        raise OrderFinished(f"The order is {order.state}.", allowed_actions=[], state=str(order.state))
