"""What comes in on the trunks to the processors, applied as one commit per message."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from requestor_app import domain
from requestor_app.domain import Acknowledgement, Event, Order, OrderNotFound, order_of
from requestor_app.measures import RequestorMeasures
from requestor_app.tracking import OrderTracking, StreamState, Tracked
from requestor_app.traffic import Closed, Incoming, Opened, Refusal, Refused, Snapshot
from service_kit.change import Change, Message, Ref, Step
from service_kit.errors import Fenced, ServiceError, StoreUnavailable, Unavailable
from service_kit.failpoints import failpoint
from service_kit.logs import get_logger
from service_kit.origin import origin_of
from service_kit.storage.contract import Store
from service_kit.times import now_ms

#: Between two tries to reach a shared store that is away.
_STORE_PAUSE_S = 0.2

log = get_logger(__name__)

_RECEIVED = failpoint("requestor.trunk.received")
_APPLIED = failpoint("requestor.trunk.applied")


class OrderOwner(Protocol):
    """Whoever is responsible for the orders."""

    def objection(self) -> str | None:
        """Why nothing may be done for an order just now; None when it may."""

    def look_again(self, ref: Ref) -> None:
        """Say that the order's record is to be looked at again."""

    def nudge(self, ref: Ref) -> bool:
        """Say that the order's outbox has something to relay."""


class Arrivals:
    """Takes what the processor at the other end of one link says of orders."""

    def __init__(
        self,
        owner: OrderOwner,
        store: Store,
        tracking: OrderTracking,
        measures: RequestorMeasures,
        *,
        instance_id: str,
        stopping: threading.Event,
        acknowledge: Callable[[Ref, int], None],
    ) -> None:
        self._owner = owner
        self._store = store
        self._tracking = tracking
        self._measures = measures
        self._instance_id = instance_id
        self._stopping = stopping
        #: Has the processor told up to where an order's events are on disk here.
        self._acknowledge = acknowledge

    def apply(self, incoming: Incoming) -> None:
        """Apply one message of the processor in one commit, then acknowledge it.

        Raises when the store cannot take it; the trunk is then built anew and nothing is lost.
        """
        _RECEIVED()
        begun_s = time.perf_counter()
        if (reason := self._owner.objection()) is not None:
            raise Unavailable(reason)
        self._note_openings(incoming)
        events: dict[Ref, list[Event]] = {}
        answers: dict[Ref, list[Acknowledgement]] = {}
        for event in incoming.events:
            events.setdefault(event.ref, []).append(event)
        for answer in incoming.answers:
            answers.setdefault(answer.ref, []).append(answer)
        if not events and not answers:
            return
        refs = list(events | answers)
        steps = [self._receive_step(ref, events.get(ref, []), answers.get(ref, [])) for ref in refs]
        results = self._commit(steps)
        _APPLIED()
        for ref, result in zip(refs, results, strict=True):
            self._settle(ref, events.get(ref, []), answers.get(ref, []), result)
        self._measures.apply_times.observe(time.perf_counter() - begun_s)

    def _commit(self, steps: Sequence[Step]) -> list[Change | Exception | None]:
        """Commit what the processor sent. A shared store that is away for a moment is waited for: the streams stay."""
        while True:
            try:
                return self._store.update_all(steps)
            except StoreUnavailable:
                if (
                    not self._store.is_shared
                    or self._owner.objection() is not None
                    or self._stopping.wait(_STORE_PAUSE_S)
                ):
                    raise

    def _receive_step(self, ref: Ref, events: list[Event], answers: list[Acknowledgement]) -> Step:
        tracked = self._tracking.find(ref)
        token = 0 if tracked is None else tracked.token
        if tracked is not None and any(event.kind in ("completed", "cancelled") for event in events):
            # From here on a new initiate asks the store, which knows whether the order has ended.
            self._tracking.move(ref, tracked.stream_id, StreamState.ENDING, now_ms())
        decide = partial(domain.receive, events=events, acknowledgements=answers, token=token, now_ms=now_ms())
        return Step(ref, decide, message_ids=tuple(answer.message_id for answer in answers))

    def _settle(
        self, ref: Ref, events: list[Event], answers: list[Acknowledgement], result: Change | Exception | None
    ) -> None:
        tracked = self._tracking.find(ref)
        if tracked is None:
            return
        if isinstance(result, StoreUnavailable):
            raise result
        if isinstance(result, (Fenced, OrderNotFound)):
            self._owner.look_again(ref)
            return
        if isinstance(result, Exception):
            self._give_up(ref, tracked, result)
            return
        outcomes = {answer.outcome for answer in answers}
        if domain.Outcome.TRY_AGAIN in outcomes or domain.Outcome.FENCED in outcomes:
            self._owner.look_again(ref)
        if result is not None:
            order = order_of(result.record)
            tracked.applied_seq = order.applied_seq
            if answers:
                self._measures.note_answers(result)
                _log_refused(ref, result.puts)
            if not order.is_unfinished:
                self._end(order, tracked)
        if events:
            self._acknowledge(ref, tracked.applied_seq)
            if events[-1].seq > tracked.applied_seq and tracked.state is StreamState.OPEN:
                log.warning(
                    "A gap in the events; opening the stream again", action="stream.gap", **names_of(self._store, ref)
                )
                self._tracking.move(ref, tracked.stream_id, StreamState.CONNECTING, now_ms(), "a gap in the events")
                self._owner.look_again(ref)

    def _give_up(self, ref: Ref, tracked: Tracked, error: Exception) -> None:
        """Stop an order that cannot be applied, where a person sees it; the others go on."""
        log.error(
            "An order's events cannot be applied", action="stream.failed", exc_info=error, **names_of(self._store, ref)
        )
        reason = "this requestor could not apply an event; see its log"
        self._tracking.move(ref, tracked.stream_id, StreamState.REFUSED, now_ms(), reason)

    def _end(self, order: Order, tracked: Tracked) -> None:
        """End the stream of a finished order; what its outbox still holds is relayed without one."""
        if tracked.state is not StreamState.DRAINING:
            log.info(
                f"Marked gRPC stream as inactive for order {order.ref.key}",
                action="stream.ended",
                order_req_id=order.ref.key,
                state=str(order.state),
                **order.origin.names,
            )
        self._tracking.stop(order.ref, order.token, drain=order.unsent > 0)
        if order.unsent > 0:
            self._owner.nudge(order.ref)

    def _note_openings(self, incoming: Incoming) -> None:
        at_ms = now_ms()
        for opened in incoming.opened:
            self._note_opened(opened, at_ms)
        for refused in incoming.refused:
            self._note_refused(refused, at_ms)
        for closed in incoming.closed:
            self._note_closed(closed, at_ms)

    def _note_opened(self, opened: Opened, at_ms: int) -> None:
        tracked = self._tracking.find(opened.ref)
        asked_ms = at_ms if tracked is None else tracked.since_ms
        if self._tracking.move(opened.ref, opened.stream_id, StreamState.OPEN, at_ms):
            self._measures.open_times.observe((at_ms - asked_ms) / 1000)
            self._owner.nudge(opened.ref)

    def _note_refused(self, refused: Refused, at_ms: int) -> None:
        retry = refused.refusal is Refusal.UNAVAILABLE
        state = StreamState.CONNECTING if retry else StreamState.REFUSED
        if not self._tracking.move(refused.ref, refused.stream_id, state, at_ms, refused.detail):
            return
        self._measures.refused_streams.add(str(refused.refusal))
        log.warning(
            f"The processor refused the stream of order {refused.ref.key}",
            action="stream.refused",
            refusal=str(refused.refusal),
            reason=refused.detail,
            **names_of(self._store, refused.ref),
        )
        if refused.snapshot is not None:
            self._adopt_end(refused.ref, refused.snapshot)
            return
        if refused.refusal is Refusal.FENCED and self._store.is_shared:
            self._reclaim(refused)
        if refused.refusal in (Refusal.UNAVAILABLE, Refusal.FENCED):
            # Fenced: most likely another instance has taken it over, which the record says.
            self._owner.look_again(refused.ref)

    def _reclaim(self, refused: Refused) -> None:
        """Claim an order again whose later claims a shared store has forgotten, as after a fail-over."""
        decide = partial(domain.reclaim, owner=self._instance_id, above=refused.highest_token, now_ms=now_ms())
        change = self._store.update(Step(refused.ref, decide))
        if change is not None:
            order = order_of(change.record)
            log.warning(
                f"The store has forgotten claims of order {refused.ref.key}; claimed it anew",
                action="order.reclaimed",
                order_req_id=refused.ref.key,
                token=order.token,
                **order.origin.names,
            )
            self._tracking.track(order, now_ms())

    def _adopt_end(self, ref: Ref, snapshot: Snapshot) -> None:
        tracked = self._tracking.find(ref)
        if tracked is None:
            return
        decide = partial(
            domain.adopt_end,
            end=snapshot.end,
            run=snapshot.run,
            head_seq=snapshot.head_seq,
            token=tracked.token,
            now_ms=now_ms(),
        )
        try:
            change = self._store.update(Step(ref, decide))
        except (Fenced, OrderNotFound):
            change = None
        if change is None:
            self._owner.look_again(ref)
        else:
            self._end(order_of(change.record), tracked)

    def _note_closed(self, closed: Closed, at_ms: int) -> None:
        reason = "the processor ended the stream"
        if self._tracking.move(closed.ref, closed.stream_id, StreamState.CONNECTING, at_ms, reason):
            self._owner.look_again(closed.ref)


def names_of(store: Store, ref: Ref) -> dict[str, str]:
    """What a line of trouble says of an order. It costs a read, which lines of every order must not."""
    record = None
    with suppress(ServiceError):
        record = store.get(ref)
    return {"order_req_id": ref.key, **({} if record is None else order_of(record).origin.names)}


def _log_refused(ref: Ref, parked: Iterable[Message]) -> None:
    for message in parked:
        log.warning(
            f"The processor never takes {message.message_id} of order {ref.key}",
            action="outbox.refused",
            order_req_id=ref.key,
            reason=message.last_error,
            **origin_of(message.body.get("origin", "")).names,
        )
