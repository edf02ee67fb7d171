"""A buyer and a seller who call once and write down what was acknowledged, for tests that need no random load."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from tests.e2e.conftest import Service, eventually, note_body, order_body
from tests.faults.arena import Arena
from tests.faults.ledger import Ledger, OrderFacts

CLIENTS = 8


class Buyer:
    """Calls both services of an arena; only a 200 enters the ledger."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.ledger = Ledger()

    @property
    def orders(self) -> list[OrderFacts]:
        """The orders that were acknowledged."""
        return [facts for facts in self.ledger.orders.values() if facts.runs_acked]

    def initiate(self, order_id: str) -> requests.Response:
        """Send a new order."""
        facts = self.ledger.orders.setdefault(order_id, OrderFacts(order_id, "s1"))
        facts.runs_tried += 1
        answer = self._post(self._arena.requestor, "/orders/initiate", order_body(order_id, notification_type="none"))
        if answer.ok:
            facts.runs_acked, facts.is_live = 1, True
        return answer

    def open_orders(self, order_ids: Iterable[str]) -> None:
        """Send many orders at once, which must all be taken, and wait for their streams."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            assert all(answer.ok for answer in pool.map(self.initiate, order_ids))
        eventually(self._arena.has_all_streams, timeout_s=30, what="the streams")

    def note(self, facts: OrderFacts, note_id: str) -> requests.Response:
        """Add a note to an order."""
        answer = self._post(self._arena.requestor, "/orders/followup", note_body(facts.order_id, note_id))
        if answer.ok and note_id not in facts.notes:
            facts.notes.append(note_id)
        return answer

    def complete(self, facts: OrderFacts) -> requests.Response:
        """Ask for an order's end."""
        answer = self._post(self._arena.requestor, f"/orders/{facts.order_id}/complete", {})
        facts.is_live = facts.is_live and not answer.ok
        return answer

    def reply(self, facts: OrderFacts, reply_id: str) -> requests.Response:
        """Answer an order as a seller."""
        body = {"reply_id": reply_id, "seller_id": "seller1", "answer": "message", "message": "soon"}
        answer = self._post(self._arena.processor, f"/orders/{facts.order_id}/replies", body)
        if answer.ok and reply_id not in facts.replies:
            facts.replies.append(reply_id)
        return answer

    def complete_as_seller(self, facts: OrderFacts) -> requests.Response:
        """End an order from the sellers' side."""
        answer = self._post(self._arena.processor, f"/orders/{facts.order_id}/complete", {})
        facts.is_live = facts.is_live and not answer.ok
        return answer

    @staticmethod
    def _post(service: Service, path: str, body: Mapping[str, Any]) -> requests.Response:
        return requests.post(f"{service.url}/api/v1{path}", json=body, timeout=30)


def until_refused(call: Callable[[int], requests.Response], *, most: int = 5_000) -> requests.Response:
    """Call with 0, 1, 2 … until the answer is no success; answers that one."""
    for number in range(most):
        answer = call(number)
        if not answer.ok:
            return answer
    raise AssertionError(f"{most} calls in a row succeeded")
