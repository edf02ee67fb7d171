"""The steps of an order's life at the processor, as pure functions ``(snapshot, input) -> Change``.

What is to be sent to sellers is planned here too, so that it is put into the outbox by the same Change as the event.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from processor_app.delivery.delivery import message_of, planned_body
from processor_app.delivery.plan import Occasion, Routes, plan
from processor_app.domain import (
    ENDS,
    Close,
    FollowUp,
    IdTaken,
    OpenStream,
    Order,
    OrderFinished,
    OrderState,
    Reply,
    RunEnded,
    change_of,
    end_entry_id,
    event_of,
    existing,
    note_entry_id,
    order_of,
    reply_entry_id,
)
from service_kit.change import Body, Change, Entry, Record, Snapshot
from service_kit.errors import Diverged, Fenced, Pruned

#: What this side adds to the content of an input that it keeps.
_OURS = frozenset({"run", "deliveries"})


def open_stream(
    snapshot: Snapshot, wish: OpenStream, *, routes: Routes, now_ms: int, holder: str = ""
) -> Change | None:
    """Let a requestor's claim hold the order; creates the order, or begins its next run; None when nothing changes.

    ``holder`` is the processor that asks, when several share the store: the record says whose the stream is.
    A new run is sent to its audience. Raises `Fenced` for a token or run below the highest seen, `Diverged` when the
    requestor knows more than is here, and `Pruned` when it asks for events that are no longer kept.
    """
    before = snapshot.record
    if before is None:
        return _begin_run(None, None, wish, routes, holder=holder, now_ms=now_ms)
    order = order_of(before)
    if wish.token < order.token or wish.run < order.run:
        raise Fenced("A newer owner holds this order.", highest_token=order.token)
    if wish.run > order.run:
        return _begin_run(before, order, wish, routes, holder=holder, now_ms=now_ms)
    if wish.resume_after > order.head_seq:
        raise Diverged("The requestor has events that this processor does not know.")
    if order.ended is not None and wish.resume_after < order.head_seq:
        raise Pruned(
            "The events of this order are no longer kept.",
            ended=str(order.ended),
            run=order.run,
            head_seq=order.head_seq,
        )
    if wish.token == order.token and holder == order.holder:
        return None
    # The time of a finished order's last change stays that of its end, from which its retention counts.
    return change_of(
        before,
        replace(order, token=wish.token, holder=holder),
        order.updated_ms if wish.token == order.token and order.is_finished else now_ms,
    )


def _begin_run(
    before: Record | None, old: Order | None, wish: OpenStream, routes: Routes, *, holder: str, now_ms: int
) -> Change:
    if wish.resume_after > 0:
        raise Diverged("The requestor has events of a run that this processor does not know.")
    run_start = 0 if old is None else old.head_seq
    # Its first event tells that it is accepted.
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
        run_start=run_start,
        head_seq=run_start + 1,
        notes_count=0 if old is None else old.notes_count,
        kept_origin=wish.origin.text,
        holder=holder,
    )
    occasion = Occasion(wish.ref, wish.run, order.head_seq, kept_origin=order.kept_origin)
    deliveries = plan(occasion, wish.notification_type, wish.audience, routes, now_ms=now_ms)
    body: dict[str, Any] = {
        "run": wish.run,
        "notification_type": wish.notification_type,
        "audience": list(wish.audience),
    }
    if deliveries:  # what is sent late is what was asked for, whatever a later run says
        body |= {"deliveries": [planned_body(d) for d in deliveries], "details": wish.details}
    entry = Entry(order.head_seq, f"run:{wish.run}", "accepted", now_ms, body)
    return change_of(before, order, now_ms, [entry], puts=[message_of(d) for d in deliveries])


def accept_follow_up(snapshot: Snapshot, note: FollowUp, *, routes: Routes, now_ms: int) -> Change | None:
    """Keep a note as an event and send it to its audience; None when the same note is there already.

    Raises `OrderNotFound`, `Fenced`, `OrderFinished` or `IdTaken`.
    """
    before, order = existing(snapshot)
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
    occasion = Occasion(note.ref, order.run, order.head_seq + 1, note.follow_up_id, note.origin.text)
    deliveries = plan(occasion, order.notification_type, note.audience, routes, now_ms=now_ms)
    told = {"deliveries": [planned_body(d) for d in deliveries]} if deliveries else {}
    entry = event_of(order, entry_id, "follow_up_accepted", now_ms, {**body, **told})
    after = replace(order, head_seq=entry.seq, notes_count=order.notes_count + 1)
    return change_of(before, after, now_ms, [entry], puts=[message_of(d) for d in deliveries])


def accept_reply(snapshot: Snapshot, reply: Reply, *, now_ms: int) -> Change | None:
    """Keep a seller's reply as an event; None when the same reply is there already.

    Raises `OrderNotFound`, `OrderFinished`, `IdTaken`, or `RunEnded` when a later run goes on by now.
    """
    before, order = existing(snapshot)
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
    if reply.run not in (0, order.run):
        raise RunEnded("The run to be answered is not the present one.")
    _refuse_finished(order)
    entry = event_of(order, entry_id, "seller_replied", now_ms, body)
    return change_of(before, replace(order, head_seq=entry.seq), now_ms, [entry])


def close(snapshot: Snapshot, wish: Close, *, now_ms: int) -> Change | None:
    """End the order's run; None when it ended that way already.

    Raises `OrderFinished` when it ended the other way, or `RunEnded` when a later run has begun since.
    """
    before, order = existing(snapshot)
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
    entry = event_of(order, end_entry_id(order.run), str(wish.end), now_ms, {"by": wish.by, "reason": wish.reason})
    return change_of(before, replace(order, state=wish.end, head_seq=entry.seq), now_ms, [entry])


def prune(snapshot: Snapshot, *, before_ms: int, now_ms: int) -> Change | None:
    """Drop the log of an order that ended before the time; None when there is no such order."""
    if snapshot.record is None:
        return None
    before, order = existing(snapshot)
    if order.state not in ENDS or order.updated_ms >= before_ms:
        return None
    after = replace(order, state=OrderState.PRUNED, ended=order.state, audience=(), details=None)
    return change_of(before, after, now_ms, forget_through=order.head_seq)


def _check_token(order: Order, token: int) -> None:
    if token < order.token:
        raise Fenced("A newer owner holds this order.", highest_token=order.token)


def _is_repeated(snapshot: Snapshot, entry_id: str, body: Body) -> bool:
    known = snapshot.entries.get(entry_id)
    if known is None:
        return False
    if {key: value for key, value in known.body.items() if key not in _OURS} != body:
        raise IdTaken("This id was used before with another content.")
    return True


def _refuse_finished(order: Order) -> None:
    if order.is_finished:
        raise OrderFinished(f"The order is {order.state}.", allowed_actions=[], state=str(order.state))
