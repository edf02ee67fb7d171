"""One attempt, from its claim on disk to its outcome on disk."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from processor_app.delivery import lifecycle
from processor_app.delivery.backlog import Backlog, Passage, Turn
from processor_app.delivery.channel import AttemptResult, Channel, Parcel, Seller, Verdict
from processor_app.delivery.delivery import Delivery, DeliveryState, delivery_of
from processor_app.delivery.directory import SellerDirectory
from processor_app.delivery.doors import Job
from processor_app.delivery.measures import DeliveryMeasures
from processor_app.delivery.retries import RetrySchedule
from processor_app.replies.links import ReplyLink
from processor_app.streams import StreamHub
from service_kit.change import Change, Decide, Message, Ref, Step
from service_kit.errors import ServiceError, StoreUnavailable
from service_kit.failpoints import failpoint
from service_kit.logs import bind_log_context, get_logger, unbind_log_context
from service_kit.storage.contract import Store
from service_kit.times import now_ms
from service_kit.tracing import next_span

#: The name of the channel that a receiver can end by an answer.
WEBHOOK = "webhook"
#: What failed together is not tried together again.
_JITTER = (0.9, 1.1)
#: After an error, so that one that stays is no storm of attempts and log lines.
_PAUSE_S = 1.0

log = get_logger(__name__)

_CLAIMED = failpoint("processor.delivery.claimed")
_SENT = failpoint("processor.delivery.sent")
_SETTLED = failpoint("processor.delivery.settled")

_UNREACHABLE = "The seller did not answer for as long as a delivery is tried; the last attempts failed."
_FORGOTTEN = AttemptResult(Verdict.FAILED, "What was to be sent is no longer kept.")


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a job ended: how its delivery stands (None: nobody knows), and what the attempt said of the seller."""

    message: Message | None
    passage: Passage = Passage.UNTRIED
    wished_pause_s: float | None = None


class Courier:
    """Does jobs of the backlog; any number of threads may use it."""

    def __init__(
        self,
        store: Store,
        hub: StreamHub,
        directory: SellerDirectory,
        backlog: Backlog,
        channels: Mapping[str, Channel],
        *,
        schedule: RetrySchedule,
        lease_s: float,
        reply_url: Callable[[ReplyLink, int], str],
        measures: DeliveryMeasures,
    ) -> None:
        self._store = store
        self._hub = hub
        self._directory = directory
        self._backlog = backlog
        self._channels = channels
        self._schedule = schedule
        self._lease_ms = int(lease_s * 1000)
        self._reply_url = reply_url
        self._measures = measures
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Wait for a store that does not answer no longer."""
        self._stopping.set()

    def carry(self, job: Job) -> None:
        """Do a job to its end; raises nothing. After an error it may be on disk all the same, so it is looked up."""
        ended = _Ended(None)
        try:
            ended = self._give_up(job) if job.is_expired else self._attempt(job)
        except ServiceError as error:
            log.warning(
                "A delivery cannot be written", action="delivery.store_failed", reason=error.detail, **_names(job)
            )
        except Exception as error:
            log.error("A delivery failed unexpectedly", action="delivery.failed", exc_info=error, **_names(job))
        if ended.message is None:
            self._hub.publish([job.ref])
            self._stopping.wait(_PAUSE_S)
        turn = self._backlog.finish(job, ended.message, ended.passage, wished_pause_s=ended.wished_pause_s)
        if turn is not None:
            _log_turn(job, turn)

    def _give_up(self, job: Job) -> _Ended:
        decide = partial(lifecycle.give_up, delivery_id=job.item.delivery_id, reason=_UNREACHABLE, now_ms=now_ms())
        return _Ended(self._keep(job, decide))

    def _attempt(self, job: Job) -> _Ended:
        key, ref = job.door.key, job.ref
        seller = self._directory.find(key.tenant, (key.seller_id,)).get(key.seller_id)
        channel = self._channels.get(key.channel)
        is_reachable = seller is not None and channel is not None and channel.has_address(seller)
        change = self._update(
            job,
            partial(
                lifecycle.claim,
                delivery_id=job.item.delivery_id,
                is_reachable=is_reachable,
                schedule=self._schedule,
                lease_ms=self._lease_ms,
                now_ms=now_ms(),
            ),
        )
        _CLAIMED()
        if change is None:
            return _Ended(None)
        delivery = delivery_of(change.puts[0])
        if seller is None or channel is None or delivery.state is not DeliveryState.SENDING:
            self._tell(ref, delivery, change)
            return _Ended(change.puts[0])
        parcel = self._parcel(change, delivery, seller)
        result = _FORGOTTEN if parcel is None else self._send(channel, parcel)
        _SENT()
        if result.verdict is Verdict.GONE and channel.name == WEBHOOK:
            self._disable(key.tenant, seller, result.detail)
        return self._settle(job, delivery, result)

    def _send(self, channel: Channel, parcel: Parcel) -> AttemptResult:
        """Try once; what is logged meanwhile, by libraries too, names the delivery."""
        bound = bind_log_context(
            order_req_id=parcel.order_req_id, delivery_id=parcel.delivery_id, **parcel.origin.names
        )
        try:
            with self._measures.attempt(channel.name, parcel) as attempt:
                attempt.result = channel.send(parcel)
                return attempt.result
        finally:
            unbind_log_context(bound)

    def _parcel(self, change: Change, delivery: Delivery, seller: Seller) -> Parcel | None:
        """What is to be sent, from the event that it is about; None when that is no longer kept."""
        ref = change.record.ref
        entries = self._store.entries(ref, after=delivery.seq - 1, limit=1)
        if not entries or entries[0].seq != delivery.seq:
            return None
        body = entries[0].body
        link = ReplyLink(ref, delivery.run, seller.seller_id, delivery.follow_up_id, delivery.delivery_id)
        return Parcel(
            delivery_id=delivery.delivery_id,
            kind="follow_up" if delivery.follow_up_id else "order",
            order_req_id=ref.key,
            session_id=change.record.group,
            seller=seller,
            created_ms=delivery.created_ms,
            attempt=delivery.attempts,
            reply_url=self._reply_url(link, delivery.round_ms),
            follow_up_id=delivery.follow_up_id,
            message_type=body.get("message_type", "text"),
            message=body.get("message", ""),
            urls=tuple(body.get("urls", ())),
            details=body.get("details"),
            origin=next_span(delivery.origin),
            parent_span_id=delivery.origin.span_id,
        )

    def _disable(self, tenant: str, seller: Seller, reason: str) -> None:
        try:
            self._directory.disable_webhook(tenant, seller.seller_id, seller.webhook_url, reason)
        except ServiceError as error:
            # Its next answer says so again.
            log.warning("A webhook could not be disabled", action="seller.disable_failed", reason=error.detail)

    def _settle(self, job: Job, delivery: Delivery, result: AttemptResult) -> _Ended:
        passage = Passage.PASSED if result.verdict is Verdict.DELIVERED else Passage.BLOCKED
        decide = partial(
            lifecycle.settle,
            delivery_id=delivery.delivery_id,
            result=result,
            attempt=delivery.attempts,
            schedule=self._schedule,
            jitter=random.uniform(*_JITTER),  # noqa: S311 # no secret
            now_ms=now_ms(),
        )
        while True:
            try:
                return _Ended(self._keep(job, decide), passage, result.retry_after_s)
            except StoreUnavailable:
                # The outcome is known and worth waiting for: without it, the seller would get the same again.
                if self._stopping.wait(_PAUSE_S):
                    raise

    # ---- the store

    def _update(self, job: Job, decide: Decide) -> Change | None:
        return self._store.update(Step(job.ref, decide, message_ids=(job.item.delivery_id,)))

    def _keep(self, job: Job, decide: Decide) -> Message | None:
        """Write how a job ended, and say so; answers how the delivery stands."""
        change = self._update(job, decide)
        _SETTLED()
        if change is None:
            return None
        self._tell(job.ref, delivery_of(change.puts[0]), change)
        return change.puts[0]

    def _tell(self, ref: Ref, delivery: Delivery, change: Change) -> None:
        if change.entries:
            self._hub.publish([ref])
        self._measures.note(delivery)
        level = log.warning if delivery.state is DeliveryState.DEAD else log.info
        level(
            f"Delivery {delivery.delivery_id} of order {ref.key} to {delivery.seller_id} is {delivery.state}",
            action=f"delivery.{delivery.state}",
            order_req_id=ref.key,
            delivery_id=delivery.delivery_id,
            seller_id=delivery.seller_id,
            channel=delivery.channel,
            follow_up_id=delivery.follow_up_id,
            attempts=delivery.attempts,
            reason=delivery.last_error,
            **delivery.origin.names,
        )


def _names(job: Job) -> dict[str, str]:
    return {"order_req_id": job.ref.key, "delivery_id": job.item.delivery_id, "seller_id": job.door.key.seller_id}


def _log_turn(job: Job, turn: Turn) -> None:
    said = "does not answer and is left alone for a while" if turn is Turn.OPENED else "answers again"
    level = log.warning if turn is Turn.OPENED else log.info
    level(
        f"The {job.door.key.channel} of seller {job.door.key.seller_id} {said}",
        action=f"breaker.{turn}",
        seller_id=job.door.key.seller_id,
        channel=job.door.key.channel,
    )
