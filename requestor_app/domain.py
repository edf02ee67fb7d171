"""An order's life at the requestor, as pure functions ``(snapshot, input) -> Change``.

    live ──complete, cancel──▶ closing ──event──▶ completed, cancelled ──initiate──▶ live (a new run)
      └───────────────event (the seller's side closed it)───▲

The requestor's log has its own numbers; an entry that came as an event of the processor keeps the event's number as
``processor_seq``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

from service_kit.change import Body, Change, Entry, Message, Record, Ref, Snapshot, next_version
from service_kit.errors import Conflict, Fenced, NotFound, TooMany
from service_kit.origin import UNKNOWN, Origin, origin_of
from service_kit.values import value

MAX_UNSENT_PER_ORDER = 1_000


class OrderState(StrEnum):
    """Where an order stands."""

    LIVE = "live"
    CLOSING = "closing"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class CloseKind(StrEnum):
    """How an order ends."""

    COMPLETE = "complete"
    CANCEL = "cancel"


class Outcome(StrEnum):
    """What the processor did with an input that was handed over."""

    ACCEPTED = "accepted"
    FENCED = "fenced"
    REFUSED = "refused"
    TRY_AGAIN = "try_again"


#: States in which an order has a claim and a stream.
UNFINISHED = (OrderState.LIVE, OrderState.CLOSING)
FINISHED = (OrderState.COMPLETED, OrderState.CANCELLED)

#: What a caller may do in each state.
ALLOWED_ACTIONS: Mapping[OrderState, tuple[str, ...]] = {
    OrderState.LIVE: ("followup", "complete", "cancel"),
    OrderState.CLOSING: (),
    OrderState.COMPLETED: ("initiate",),
    OrderState.CANCELLED: ("initiate",),
}

_END_OF = {CloseKind.COMPLETE: OrderState.COMPLETED, CloseKind.CANCEL: OrderState.CANCELLED}
#: Events that end a run, and the state they lead to.
_ENDS = {"completed": OrderState.COMPLETED, "cancelled": OrderState.CANCELLED}

#: Outbox message kinds and states.
FOLLOW_UP = "follow_up"
CLOSE = "close"
SET_ASIDE = "set_aside"


class OrderNotFound(NotFound):
    """No order of the caller has this id."""

    code = "order_not_found"
    title = "Unknown order"


class OrderHeld(Conflict):
    """The order is live with another session or another content."""

    code = "order_live"
    title = "The order is live"


class ActionRefused(Conflict):
    """The order's state does not allow the action; ``allowed_actions`` says what it allows."""

    code = "action_refused"
    title = "The order's state does not allow this"


class FollowUpConflict(Conflict):
    """The follow-up id was used before with another content."""

    code = "follow_up_conflict"
    title = "The follow-up id is taken"


class TooManyUnsent(TooMany):
    """Too many follow-ups of the order wait for the processor."""

    code = "too_many_unsent"
    title = "Too many unsent follow-ups"


@value
class OrderRequest:
    """What a buyer asks for at initiate."""

    ref: Ref
    session_id: str
    notification_type: str
    audience: tuple[str, ...] = ()
    details: Body | None = None


@value
class FollowUp:
    """What a buyer adds to an order."""

    ref: Ref
    follow_up_id: str
    audience: tuple[str, ...]
    message_type: str
    message: str
    urls: tuple[str, ...] = ()


@value
class Event:
    """One numbered fact that the processor sent."""

    ref: Ref
    seq: int
    run: int
    kind: str
    at_ms: int
    body: Body


@value
class Acknowledgement:
    """The processor's answer to a message of the outbox."""

    ref: Ref
    message_id: str
    outcome: Outcome
    detail: str = ""


@value
class Order:
    """An order as its record says it. ``applied_seq`` is the last event of the present run on disk, 0 when none.

    ``head`` is the newest number of the order's log, ``unsent`` counts the pending messages of its outbox.
    ``kept_origin`` is the request that began the present run.
    """

    ref: Ref
    state: OrderState
    session_id: str
    notification_type: str
    audience: tuple[str, ...]
    details: Body | None
    owner: str
    token: int
    run: int
    created_ms: int
    applied_seq: int = 0
    head: int = 0
    notes_count: int = 0
    unsent: int = 0
    updated_ms: int = 0
    kept_origin: str = ""

    @property
    def origin(self) -> Origin:
        """The request that began the present run."""
        return origin_of(self.kept_origin)

    @property
    def is_unfinished(self) -> bool:
        """Whether the order has a claim and a stream."""
        return self.state in UNFINISHED

    @property
    def allowed_actions(self) -> tuple[str, ...]:
        """What a caller may do now."""
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
        owner=record.owner,
        token=record.token,
        run=body["run"],
        created_ms=record.created_ms,
        applied_seq=body["applied_seq"],
        head=body["head"],
        notes_count=body["notes_count"],
        unsent=body["unsent"],
        updated_ms=record.updated_ms,
        kept_origin=body.get("origin", ""),
    )


def _record_of(order: Order, version: int, now_ms: int) -> Record:
    return Record(
        ref=order.ref,
        state=order.state,
        body={
            "notification_type": order.notification_type,
            "audience": order.audience,
            "details": order.details,
            "run": order.run,
            "applied_seq": order.applied_seq,
            "head": order.head,
            "notes_count": order.notes_count,
            "unsent": order.unsent,
            "origin": order.kept_origin,
        },
        owner=order.owner,
        token=order.token,
        version=version,
        group=order.session_id,
        created_ms=order.created_ms,
        updated_ms=now_ms,
    )


def _change(
    before: Record | None,
    after: Order,
    now_ms: int,
    entries: Sequence[Entry] = (),
    *,
    puts: Sequence[Message] = (),
    settles: Sequence[str] = (),
) -> Change:
    return Change(
        expect=None if before is None else before.version,
        record=_record_of(after, next_version(before), now_ms),
        entries=tuple(entries),
        puts=tuple(puts),
        settles=tuple(settles),
    )


def _found(snapshot: Snapshot) -> Record:
    if snapshot.record is None:
        raise OrderNotFound("No order has this id.")
    return snapshot.record


def _existing(snapshot: Snapshot) -> tuple[Record, Order]:
    record = _found(snapshot)
    return record, order_of(record)


def note_entry_id(follow_up_id: str) -> str:
    """The log's name of a follow-up; also its name in the outbox."""
    return f"note:{follow_up_id}"


def close_message_id(run: int) -> str:
    """The outbox's name of the close of a run."""
    return f"close:{run}"


def same_content(order: Order, request: OrderRequest) -> bool:
    """Whether a repeated initiate asks for what the order already is."""
    return (
        order.session_id == request.session_id
        and order.notification_type == request.notification_type
        and order.audience == request.audience
        and order.details == request.details
    )


def initiate(
    snapshot: Snapshot, request: OrderRequest, *, owner: str, now_ms: int, origin: Origin = UNKNOWN
) -> Change | None:
    """Claim a new order, or begin a new run of a finished one; None when the same order is live already.

    Raises `OrderHeld` when the order is live with another session or content.
    """
    before = snapshot.record
    head = created_ms = notes_count = unsent = 0
    token = snapshot.token_floor + 1
    if before is not None:
        old = order_of(before)
        if old.is_unfinished:
            if same_content(old, request):
                return None
            raise OrderHeld("An order with this id is live with another session or another content.")
        token = max(old.token, snapshot.token_floor) + 1
        head, created_ms, notes_count, unsent = old.head, old.created_ms, old.notes_count, old.unsent
    order = Order(
        ref=request.ref,
        state=OrderState.LIVE,
        session_id=request.session_id,
        notification_type=request.notification_type,
        audience=request.audience,
        details=request.details,
        owner=owner,
        token=token,
        run=token,
        created_ms=created_ms or now_ms,
        head=head + 1,
        notes_count=notes_count,
        unsent=unsent,
        kept_origin=origin.text,
    )
    entry = Entry(order.head, f"run:{token}", "initiated", now_ms, {"session_id": request.session_id, "token": token})
    return _change(before, order, now_ms, [entry])


def take_over(snapshot: Snapshot, *, owner: str, now_ms: int, of: str | None = None) -> Change | None:
    """Claim an unfinished order of an instance that is gone, with the next token; None when there is none to take.

    With ``of`` it must be the order of that instance still: another one may have been quicker.
    """
    if snapshot.record is None:
        return None
    before, order = _existing(snapshot)
    if not order.is_unfinished or order.owner == owner or of not in (None, order.owner):
        return None
    after = replace(order, owner=owner, token=order.token + 1, head=order.head + 1)
    entry = Entry(after.head, f"claim:{after.token}", "taken_over", now_ms, {"token": after.token})
    return _change(before, after, now_ms, [entry])


def reclaim(snapshot: Snapshot, *, owner: str, above: int, now_ms: int) -> Change | None:
    """Claim one's own order anew, above a token that the store has forgotten; None when it is not one's own any more.

    A store that fell back to an older state knows nothing of later claims, but the processor does.
    """
    if snapshot.record is None:
        return None
    before, order = _existing(snapshot)
    if not order.is_unfinished or order.owner != owner or order.token > above:
        return None
    after = replace(order, token=above + 1, head=order.head + 1)
    entry = Entry(after.head, f"claim:{after.token}", "taken_over", now_ms, {"token": after.token})
    return _change(before, after, now_ms, [entry])


def add_follow_up(snapshot: Snapshot, note: FollowUp, *, now_ms: int, origin: Origin = UNKNOWN) -> Change | None:
    """Keep a note and put it into the outbox; None when the same note is there already.

    Raises `FollowUpConflict`, `ActionRefused`, `TooManyUnsent` or `OrderNotFound`.
    """
    before, order = _existing(snapshot)
    body = {
        "follow_up_id": note.follow_up_id,
        "audience": list(note.audience),
        "message_type": note.message_type,
        "message": note.message,
        "urls": list(note.urls),
    }
    entry_id = note_entry_id(note.follow_up_id)
    known = snapshot.entries.get(entry_id)
    if known is not None:
        if known.body == body:
            return None
        raise FollowUpConflict("This follow-up id was used before with another content.")
    if order.state is not OrderState.LIVE:
        raise _refused(order, "take a follow-up")
    if order.unsent >= MAX_UNSENT_PER_ORDER:
        raise TooManyUnsent(f"{MAX_UNSENT_PER_ORDER} messages of this order wait for the processor.", retry_after_s=5)
    after = replace(order, head=order.head + 1, notes_count=order.notes_count + 1, unsent=order.unsent + 1)
    entry = Entry(after.head, entry_id, "note_added", now_ms, body)
    message = Message(
        entry_id, after.head, FOLLOW_UP, {**body, "origin": origin.text}, due_ms=now_ms, created_ms=now_ms
    )
    return _change(before, after, now_ms, [entry], puts=[message])


def request_close(
    snapshot: Snapshot, kind: CloseKind, reason: str, *, now_ms: int, origin: Origin = UNKNOWN
) -> Change | None:
    """Ask for the order's end, behind the notes taken before; None when it is asked for or done already."""
    before, order = _existing(snapshot)
    if order.state is _END_OF[kind]:
        return None
    if order.state is OrderState.CLOSING:
        asked = snapshot.messages.get(close_message_id(order.run))
        if asked is not None and asked.body["kind"] == kind:
            return None
    if order.state is not OrderState.LIVE:
        raise _refused(order, f"be asked to {kind}")
    body = {"run": order.run, "kind": str(kind), "reason": reason}
    after = replace(order, state=OrderState.CLOSING, head=order.head + 1, unsent=order.unsent + 1)
    message_id = close_message_id(order.run)
    entry = Entry(after.head, message_id, "close_requested", now_ms, body)
    message = Message(message_id, after.head, CLOSE, {**body, "origin": origin.text}, due_ms=now_ms, created_ms=now_ms)
    return _change(before, after, now_ms, [entry], puts=[message])


def receive(
    snapshot: Snapshot,
    events: Sequence[Event],
    acknowledgements: Sequence[Acknowledgement],
    *,
    token: int,
    now_ms: int,
) -> Change | None:
    """Apply what the processor sent for one order: events in their order, answers to messages in any.

    Events that are on disk already are dropped; a gap ends the application before it, which the caller sees by
    ``applied_seq``. Raises `Fenced` when the order is not held under this token any more.
    """
    before = _found(snapshot)
    if before.token != token:
        raise Fenced("The order is held under another token.")
    # On the record itself: every order has this step, and turning it into an order and back is most of its cost.
    kept = before.body
    applied_seq, state, entries = kept["applied_seq"], before.state, list[Entry]()
    for event in events:
        if event.run == kept["run"] and event.seq <= applied_seq:
            continue
        if event.run != kept["run"] or not _follows(applied_seq, event):
            break
        applied_seq = event.seq
        body = {"processor_seq": event.seq, "processor_at_ms": event.at_ms, **event.body}
        entry_id = f"event:{event.run}:{event.seq}"
        entries.append(Entry(kept["head"] + len(entries) + 1, entry_id, event.kind, now_ms, body))
        if event.kind in _ENDS:
            state = _ENDS[event.kind]
            break
    puts, settles = _settled(snapshot, acknowledgements) if acknowledgements else ((), ())
    if not entries and not puts and not settles:
        return None
    record = Record(
        ref=before.ref,
        state=state,
        body={
            **kept,
            "applied_seq": applied_seq,
            "head": kept["head"] + len(entries),
            "unsent": kept["unsent"] - len(puts) - len(settles),
        },
        owner=before.owner if state is before.state else "",
        token=before.token,
        version=before.version + 1,
        group=before.group,
        created_ms=before.created_ms,
        updated_ms=now_ms,
    )
    return Change(before.version, record, tuple(entries), tuple(puts), tuple(settles))


def _settled(
    snapshot: Snapshot, acknowledgements: Sequence[Acknowledgement]
) -> tuple[Sequence[Message], Sequence[str]]:
    """The messages that a refusal sets aside, and the ids of those that are through; the others go on waiting."""
    puts: list[Message] = []
    settles: list[str] = []
    waiting = {name: message for name, message in snapshot.messages.items() if message.state == "pending"}
    for answer in acknowledgements:
        if answer.message_id not in waiting or answer.outcome not in (Outcome.ACCEPTED, Outcome.REFUSED):
            continue
        # A message that was sent twice may be answered twice at once.
        message = waiting.pop(answer.message_id)
        if answer.outcome is Outcome.ACCEPTED:
            settles.append(message.message_id)
        else:
            puts.append(replace(message, state=SET_ASIDE, attempts=message.attempts + 1, last_error=answer.detail))
    return puts, settles


def adopt_end(
    snapshot: Snapshot, end: OrderState, *, run: int, head_seq: int, token: int, now_ms: int
) -> Change | None:
    """End a run whose events the processor no longer keeps, with an entry that says which are missing.

    None when the run has ended here already. Raises `Fenced` when the order is not held under this token any more.
    """
    before, order = _existing(snapshot)
    if order.token != token:
        raise Fenced("The order is held under another token.")
    if not order.is_unfinished or order.run != run or end not in FINISHED:
        return None
    body = {"missing_after": order.applied_seq, "missing_to": head_seq, "end": str(end)}
    after = replace(order, state=end, owner="", applied_seq=head_seq, head=order.head + 1)
    return _change(before, after, now_ms, [Entry(after.head, f"pruned:{run}", "history_pruned", now_ms, body)])


def set_aside(snapshot: Snapshot, message_id: str, reason: str, *, now_ms: int) -> Change | None:
    """Take a message that cannot be relayed out of the way, where a person can see it; None when it is not waiting."""
    before, order = _existing(snapshot)
    message = snapshot.messages.get(message_id)
    if message is None or message.state != "pending":
        return None
    parked = replace(message, state=SET_ASIDE, attempts=message.attempts + 1, last_error=reason)
    return _change(before, replace(order, unsent=order.unsent - 1), now_ms, puts=[parked])


def _follows(applied_seq: int, event: Event) -> bool:
    # A run's first event may continue the numbers of runs that this side no longer keeps.
    return event.seq == applied_seq + 1 or (applied_seq == 0 and event.kind == "accepted")


def _refused(order: Order, what: str) -> ActionRefused:
    allowed: dict[str, Any] = {"allowed_actions": list(order.allowed_actions), "state": str(order.state)}
    return ActionRefused(f"An order that is {order.state} cannot {what}.", **allowed)
