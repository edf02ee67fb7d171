"""The use cases of the processor: what both RPC forms and the REST side ask for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import partial
from typing import TypeAlias

from processor_app import domain, steps
from processor_app.delivery.backlog import Backlog
from processor_app.delivery.delivery import DeliveryState
from processor_app.delivery.plan import Routes
from processor_app.delivery.routes import RouteFinder
from processor_app.domain import Close, FollowUp, OpenStream, Order, OrderNotFound, Reply, order_of
from processor_app.measures import InputMeasures
from processor_app.streams import Opened, Outlet, StreamHub
from service_kit.change import Change, Entry, Ref, Step
from service_kit.errors import Fenced, ServiceError, Unavailable
from service_kit.failpoints import failpoint
from service_kit.logs import get_logger
from service_kit.lookup import search
from service_kit.origin import origin_of
from service_kit.storage.contract import Store
from service_kit.times import now_ms
from service_kit.values import value

log = get_logger(__name__)

_TAKING = failpoint("processor.taking")
_TAKEN = failpoint("processor.taken")
_ATTACHED = failpoint("processor.attached")
_REPLY_KEPT = failpoint("processor.reply.kept")
_COMPLETION_KEPT = failpoint("processor.complete.kept")

#: What a requestor hands over.
Input: TypeAlias = OpenStream | FollowUp | Close


@value
class OrderPage:
    """One page of orders, newest first."""

    orders: tuple[Order, ...]
    next_cursor: str | None


class Orders:
    """Works on orders; every step is durable before anybody hears of it."""

    def __init__(
        self,
        store: Store,
        hub: StreamHub,
        routes: RouteFinder,
        backlog: Backlog,
        measures: InputMeasures,
        *,
        holder: str = "",
    ) -> None:
        self._store = store
        #: The name of this processor in records of a shared store.
        self._holder = holder
        self._hub = hub
        self._routes = routes
        self._backlog = backlog
        self.measures = measures

    # ---- from the requestor

    def take(self, inputs: Sequence[Input]) -> list[Change | ServiceError | None]:
        """Apply inputs in their order in one durable commit; each has its own result, None when nothing changed."""
        _TAKING()
        at_ms = now_ms()
        routes = self._find_routes(inputs)
        try:
            results = self._store.update_all([self._step(item, routes[item.ref.tenant], at_ms) for item in inputs])
            _TAKEN()
        except BaseException:
            # It may be on disk all the same, and its repetition would change nothing and wake nobody.
            refs = [item.ref for item in inputs]
            self._hub.publish(refs)
            self._backlog.look_again(refs)
            raise
        # Streams that are about to be attached elsewhere are woken there: their old place hears no more of them.
        moving = {
            item.ref
            for item, result in zip(inputs, results, strict=True)
            if isinstance(item, OpenStream) and not isinstance(result, Exception)
        }
        self._pass_on([result for result in results if isinstance(result, Change)], moving)
        for item, result in zip(inputs, results, strict=True):
            self.measures.note(item, result, at_ms)
            if isinstance(result, Change):
                _log_taken(item)
            elif isinstance(result, ServiceError) and not isinstance(result, Unavailable):
                _log_refused(item, result)
        if self._holder:
            changed = {result.record.ref for result in results if isinstance(result, Change)}
            self._hub.moved([ref for ref in moving if ref in changed])
        return [_public(result) for result in results]

    def _step(self, item: Input, routes: Routes, at_ms: int) -> Step:
        match item:
            case OpenStream():
                decide = partial(steps.open_stream, wish=item, routes=routes, now_ms=at_ms, holder=self._holder)
                return Step(item.ref, decide)
            case FollowUp():
                decide = partial(steps.accept_follow_up, note=item, routes=routes, now_ms=at_ms)
                return Step(item.ref, decide, entry_ids=(domain.note_entry_id(item.follow_up_id),))
            case Close():
                decide = partial(steps.close, wish=item, now_ms=at_ms)
                return Step(item.ref, decide, entry_ids=(domain.end_entry_id(item.run),))

    def _find_routes(self, inputs: Sequence[Input]) -> dict[str, Routes]:
        """How the sellers can be reached whom the inputs address, by tenant."""
        addressed: defaultdict[str, set[str]] = defaultdict(set)
        for item in inputs:
            addressed[item.ref.tenant].update(() if isinstance(item, Close) else item.audience)
        return {tenant: self._routes.find(tenant, seller_ids) for tenant, seller_ids in addressed.items()}

    def _pass_on(self, changes: Sequence[Change], moving: Collection[Ref]) -> None:
        """Send new events to the requestor and new deliveries to sellers."""
        self._hub.publish([c.record.ref for c in changes if c.entries and c.record.ref not in moving])
        for change in changes:
            if change.puts:
                self._backlog.announce(change.record.ref, change.puts)
                _log_waiting(change)

    def take_one(self, item: Input) -> Change | None:
        """Apply one input; raises what refuses it."""
        (result,) = self.take([item])
        if isinstance(result, ServiceError):
            raise result
        return result

    def attach(self, wishes: Sequence[tuple[OpenStream, Change | None]], outlet: Outlet) -> list[ServiceError | None]:
        """Bring opened orders' streams to the outlet, after `take` has let their claims in."""
        outcomes: list[ServiceError | None] = []
        for wish, change in wishes:
            try:
                order = order_of(change.record) if change is not None else self.get(wish.ref)
                self._hub.attach(_opened(wish, order), outlet)
                outcomes.append(None)
            except ServiceError as error:
                self._hub.publish([wish.ref])
                self.measures.note(wish, error, now_ms())
                outcomes.append(error)
        _ATTACHED()
        return outcomes

    # ---- from the seller side

    def reply(self, reply: Reply) -> bool:
        """Keep a seller's reply and send it on; False when it was there already."""
        step = partial(steps.accept_reply, reply=reply, now_ms=now_ms())
        try:
            change = self._store.update(Step(reply.ref, step, entry_ids=(domain.reply_entry_id(reply.reply_id),)))
            _REPLY_KEPT()
        finally:
            self._hub.publish([reply.ref])
        log.info(
            f"Seller {reply.seller_id} replied to order {reply.ref.key}",
            action="order.replied",
            order_req_id=reply.ref.key,
            repeated=change is None,
        )
        return change is not None

    def complete(self, close: Close) -> Order:
        """Complete an order from the seller side and send it on; repeating it changes nothing."""
        try:
            change = self._store.update(Step(close.ref, partial(steps.close, wish=close, now_ms=now_ms())))
            _COMPLETION_KEPT()
        finally:
            self._hub.publish([close.ref])
        log.info(
            f"Order {close.ref.key} completed by the seller side",
            action="order.completed",
            order_req_id=close.ref.key,
            repeated=change is None,
        )
        return order_of(change.record) if change is not None else self.get(close.ref)

    # ---- cleanup

    def prune(self, retention_s: float, limit: int) -> int:
        """Drop the logs of orders that ended that long ago, and in the end their records; answers how many went."""
        at_ms = now_ms()
        before_ms = at_ms - int(retention_s * 1000)
        decide = partial(steps.prune, before_ms=before_ms, now_ms=at_ms)
        stale = self._store.stale(states=domain.ENDS, before_ms=before_ms, limit=limit)
        pruned = sum(result is not None for result in self._store.update_all([Step(ref, decide) for ref in stale]))
        return pruned + self._store.purge(states=(domain.OrderState.PRUNED,), before_ms=before_ms, limit=limit)

    # ---- reads

    def get(self, ref: Ref) -> Order:
        """The order. Raises `OrderNotFound`."""
        record = self._store.get(ref)
        if record is None:
            raise OrderNotFound("No order has this id.")
        return order_of(record)

    def page(
        self,
        tenant: str,
        *,
        states: Sequence[str],
        session_id: str | None,
        cursor: str | None,
        limit: int,
        prefix: str | None = None,
    ) -> OrderPage:
        """Orders newest first, filtered; by the beginning of their ids, a page may hold less and not be the last."""
        page = search(self._store, tenant, prefix, states=states, group=session_id, cursor=cursor, limit=limit)
        return OrderPage(tuple(order_of(record) for record in page.records), page.next_cursor)

    def events(self, ref: Ref, *, after: int, limit: int) -> list[Entry]:
        """The order's events above ``after``. Raises `OrderNotFound`."""
        self.get(ref)
        return self._store.entries(ref, after=after, limit=limit)

    def counts(self, tenant: str) -> dict[str, int]:
        """How many orders stand in each state."""
        return self._store.counts(tenant)

    def open_streams(self, tenant: str) -> int:
        """How many streams of a tenant are open at this processor."""
        return self._hub.streams_of(tenant)

    def has_open_stream(self, ref: Ref) -> bool:
        """Whether the order's stream is open at this processor."""
        return self._hub.stream_of(ref) is not None


def _public(result: Change | Exception | None) -> Change | ServiceError | None:
    if isinstance(result, Exception) and not isinstance(result, ServiceError):
        log.error("An input could not be decided", action="order.step_failed", exc_info=result)
        return ServiceError("The processor could not decide this; see its log.")
    return result


def _opened(wish: OpenStream, order: Order) -> Opened:
    if order.token > wish.token:
        raise Fenced("A newer owner holds this order.", highest_token=order.token)
    return Opened(
        wish.ref,
        wish.stream_id,
        token=wish.token,
        head_seq=order.head_seq,
        resumes_after=max(wish.resume_after, order.run_start),
    )


def _log_waiting(change: Change) -> None:
    sellers = [message.address for message in change.puts if message.state == DeliveryState.WAITING]
    if sellers:
        log.info(
            f"{len(sellers)} deliveries of order {change.record.ref.key} wait for their sellers' addresses",
            action="delivery.waiting",
            order_req_id=change.record.ref.key,
            sellers=sellers,
            **origin_of(change.puts[0].body["origin"]).names,
        )


def _log_refused(item: Input, error: ServiceError) -> None:
    """A line for each note and each end that is not taken; that of a stream stands where all openings are refused."""
    if not isinstance(item, OpenStream):
        log.warning(
            f"Refused a {'follow-up note' if isinstance(item, FollowUp) else 'close'} of order {item.ref.key}",
            action="order.input_refused",
            order_req_id=item.ref.key,
            reason=error.code,
            **item.origin.names,
        )


def _log_taken(item: Input) -> None:
    """One line for each note and each end; the opening of a stream has its own, when it is open."""
    match item:
        case FollowUp():
            log.info(
                f"Took follow-up note for order {item.ref.key}",
                action="order.note_taken",
                order_req_id=item.ref.key,
                follow_up_id=item.follow_up_id,
                **item.origin.names,
            )
        case Close():
            log.info(
                f"Order {item.ref.key} {item.end} by the buyer",
                action="order.closed",
                order_req_id=item.ref.key,
                **item.origin.names,
            )
