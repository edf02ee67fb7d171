"""The client: a method for each call of the requestor."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

import requests

from requestor_client.answers import (
    Closed,
    Event,
    EventPage,
    FollowedUp,
    Initiated,
    Order,
    OrderPage,
    OrderSummary,
    Readiness,
    TrackedOrder,
    TrackingStatus,
)
from requestor_client.transport import Transport

_ORDERS = "/api/v1/orders"
#: As much as the service gives at a time.
_PAGE = 1_000


class RequestorClient:
    """Calls one requestor. Not for several threads at once: give each its own.

    A call that is not answered, or answered "later", is sent again up to ``retries`` times; each attempt may take
    ``timeout_s``, and pauses last as long as the requestor asks for, but no longer than ``longest_pause_s``. That is
    safe for every call: an order and a close are known by the order's id, and a follow-up always carries an id.
    ``key`` is what a requestor that needs keys is shown. A ``session`` of your own may add certificates, proxies or
    headers.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8004",
        *,
        timeout_s: float = 10.0,
        retries: int = 4,
        longest_pause_s: float = 10.0,
        session: requests.Session | None = None,
        key: str | None = None,
    ) -> None:
        self._transport = Transport(
            url, timeout_s=timeout_s, retries=retries, longest_pause_s=longest_pause_s, session=session, key=key
        )

    def __enter__(self) -> RequestorClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where the requestor is."""
        return self._transport.url

    def close(self) -> None:
        """Let the connections go."""
        self._transport.close()

    # ---- what changes something

    def initiate(
        self,
        order_req_id: str,
        session_id: str,
        notification_type: str = "email",
        *,
        audience: Sequence[str] = (),
        details: Mapping[str, Any] | None = None,
    ) -> Initiated:
        """Take an order; it is on disk when this returns. The same again changes nothing while the order is live.

        Raises `OrderLive` when it is live with another session or content.
        """
        body: dict[str, Any] = {
            "order_req_id": order_req_id,
            "session_id": session_id,
            "notification_type": notification_type,
            "audience": list(audience),
        }
        if details is not None:
            body["details"] = dict(details)
        return self._transport.call(Initiated, "POST", f"{_ORDERS}/initiate", body=body)

    def follow_up(
        self,
        order_req_id: str,
        message: str = "",
        *,
        audience: Sequence[str],
        urls: Sequence[str] = (),
        message_type: str = "text",
        follow_up_id: str | None = None,
    ) -> FollowedUp:
        """Add a note to an order; it is on disk when this returns. Without an id of yours it gets a new one.

        Give an id of your own when you may call this again for the same note, such as after a crash.
        """
        body = {
            "order_req_id": order_req_id,
            "follow_up_id": follow_up_id or uuid.uuid4().hex,
            "audience": list(audience),
            "message": {"message_type": message_type, "message": message, "urls": list(urls)},
        }
        return self._transport.call(FollowedUp, "POST", f"{_ORDERS}/followup", body=body)

    def complete(self, order_req_id: str, reason: str = "") -> Closed:
        """Ask for the order's end, behind the notes taken before."""
        return self._end("complete", order_req_id, reason)

    def cancel(self, order_req_id: str, reason: str = "") -> Closed:
        """Ask for the order's end as a cancellation."""
        return self._end("cancel", order_req_id, reason)

    def _end(self, how: str, order_req_id: str, reason: str) -> Closed:
        return self._transport.call(Closed, "POST", f"{_path(order_req_id)}/{how}", body={"reason": reason})

    # ---- what shows something

    def order(self, order_req_id: str) -> Order:
        """Everything about one order. Raises `NotFound`."""
        return self._transport.call(Order, "GET", _path(order_req_id))

    def page(
        self,
        *,
        state: str | None = None,
        session_id: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> OrderPage:
        """One page of orders, newest first."""
        query = {"state": state, "session_id": session_id, "limit": limit, "cursor": cursor}
        return self._transport.call(OrderPage, "GET", _ORDERS, query=query)

    def orders(self, *, state: str | None = None, session_id: str | None = None) -> Iterator[OrderSummary]:
        """Every order, newest first, asked for page by page."""
        cursor: str | None = None
        while True:
            page = self.page(state=state, session_id=session_id, limit=_PAGE, cursor=cursor)
            yield from page.orders
            cursor = page.next_cursor
            if cursor is None:
                return

    def events(self, order_req_id: str, *, after: int = 0) -> Iterator[Event]:
        """The order's timeline behind a number, oldest first, up to its end of this moment. Raises `NotFound`."""
        while True:
            query = {"after": after, "limit": _PAGE}
            page = self._transport.call(EventPage, "GET", f"{_path(order_req_id)}/events", query=query)
            yield from page.events
            after = page.last_seq
            if len(page.events) < _PAGE:
                return

    def tracking_status(self, *, limit: int = _PAGE, cursor: str | None = None) -> TrackingStatus:
        """The counts over all orders, and one page of their ids."""
        query = {"limit": limit, "cursor": cursor}
        return self._transport.call(TrackingStatus, "GET", f"{_ORDERS}/tracking/status", query=query)

    def tracked_order(self, order_req_id: str) -> TrackedOrder:
        """One order's stream and notes. Raises `NotFound`."""
        return self._transport.call(TrackedOrder, "GET", f"{_ORDERS}/tracking/{quote(order_req_id, safe='')}")

    def readiness(self) -> Readiness:
        """What each part of the requestor says of itself; also when not every part works."""
        return self._transport.call(Readiness, "GET", "/readyz", also=(503,))


def _path(order_req_id: str) -> str:
    return f"{_ORDERS}/{quote(order_req_id, safe='')}"
