"""Clients like a buyer's system: they repeat what was not answered, under the same ids, or give it up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from typing import Any

import requests

from tests.e2e.conftest import Service, note_body
from tests.faults.arena import Arena
from tests.faults.ledger import Ledger, OrderFacts

#: A call that is not answered for so long counts as a fault of its own.
_PATIENCE_S = 60.0
#: A webhook that no attempt reaches: its address is not in the public internet.
_NOWHERE = "http://127.0.0.1:9/"


class Client(threading.Thread):
    """One client with orders of its own, so that it knows in which order things were acknowledged."""

    def __init__(
        self, arena: Arena, seed: int, number: int, *, orders: int, pause_s: float, stop: threading.Event
    ) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self._arena = arena
        self._random = random.Random(f"{seed}/{number}")
        self._number = number
        self._orders = orders
        self._pause_s = pause_s
        self._stop_asked = stop
        self._session = requests.Session()
        self._seller = f"seller-{number}"
        self.ledger = Ledger()
        self.error: BaseException | None = None
        self._ids = 0

    def run(self) -> None:
        try:
            while not self._stop_asked.wait(self._pause_s):
                self._act()
            self._register(is_reachable=True)
        except BaseException as error:  # noqa: BLE001 - told by the driver
            self.error = error

    def _act(self) -> None:
        live = [facts for facts in self.ledger.orders.values() if facts.is_live]
        dice = self._random.random()
        if len(live) < self._orders or dice < 0.04:
            self._initiate(self._new_or_finished())
            return
        facts = self._random.choice(live)
        if dice < 0.80:
            self._note(facts, self._next_id("n"))
        elif dice < 0.85 and facts.notes:
            self._note(facts, self._random.choice(facts.notes))  # again, as after a double click
        elif dice < 0.88:
            self._initiate(facts)  # again
        elif dice < 0.93:
            self._reply(facts)
        elif dice < 0.96:
            self._end(facts)
        elif dice < 0.985:
            self._register(is_reachable=self._random.random() < 0.5)
        else:
            self._call(self._arena.processor, "/deliveries/retry", {"seller_id": self._seller})

    def _next_id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}-{self._number}-{self._ids}"

    def _new_or_finished(self) -> OrderFacts:
        finished = [facts for facts in self.ledger.orders.values() if not facts.is_live]
        if finished and self._random.random() < 0.3:
            return self._random.choice(finished)
        kind = self._random.choice(["none", "email", "email", "webhook"])
        facts = OrderFacts(self._next_id("o"), f"session-{self._number}", kind)
        self.ledger.orders[facts.order_id] = facts
        return facts

    # ---- the calls

    def _initiate(self, facts: OrderFacts) -> None:
        body = {
            "order_req_id": facts.order_id,
            "session_id": facts.session_id,
            "notification_type": facts.notification_type,
            "audience": [self._seller],
        }
        may_be_new = not facts.is_live
        facts.runs_tried += may_be_new
        answer = self._call(self._arena.requestor, "/orders/initiate", body)
        if answer is None:
            return
        if answer.get("message") == "Order initiated successfully":
            facts.runs_acked += 1
            facts.is_live = True
        elif may_be_new and not facts.runs_acked and not facts.was_ended:
            facts.is_live = True  # already being processed: an earlier try of ours that was not answered

    def _note(self, facts: OrderFacts, note_id: str) -> None:
        body = {**note_body(facts.order_id, note_id), "audience": [self._seller]}
        answer = self._call(self._arena.requestor, "/orders/followup", body)
        if answer is not None and answer.get("success") and note_id not in facts.notes:
            facts.notes.append(note_id)

    def _reply(self, facts: OrderFacts) -> None:
        reply_id = self._next_id("r")
        body = {"reply_id": reply_id, "seller_id": self._seller, "answer": "message", "message": "soon"}
        answer = self._call(self._arena.processor, f"/orders/{facts.order_id}/replies", body, may_be_unknown=True)
        if answer is not None and answer.get("success"):
            facts.replies.append(reply_id)

    def _register(self, *, is_reachable: bool) -> None:
        """Give this client's seller its addresses, or take them away, so that deliveries wait and go again."""
        addresses = {"email": f"{self._seller}@example.com", "webhook_url": _NOWHERE} if is_reachable else {}
        # Nobody gives this up: at the end every seller can be reached.
        self._call(self._arena.processor, f"/sellers/{self._seller}", addresses, method="PUT", may_give_up=False)

    def _end(self, facts: OrderFacts) -> None:
        facts.is_live, facts.was_ended = False, True
        # The seller's side may end an order only when no note is on its way: it would be set aside.
        if self._random.random() < 0.4 and self._is_relayed(facts):
            self._call(self._arena.processor, f"/orders/{facts.order_id}/complete", {}, may_be_unknown=True)
            return
        kind = self._random.choice(["complete", "cancel"])
        self._call(self._arena.requestor, f"/orders/{facts.order_id}/{kind}", {})

    def _is_relayed(self, facts: OrderFacts) -> bool:
        try:
            answer = self._session.get(f"{self._arena.requestor.url}/api/v1/orders/{facts.order_id}", timeout=10)
            return answer.status_code == 200 and answer.json()["unsent_count"] == 0
        except requests.RequestException:
            return False

    def _call(
        self,
        service: Service,
        path: str,
        body: Mapping[str, Any],
        *,
        method: str = "POST",
        may_be_unknown: bool = False,
        may_give_up: bool = True,
    ) -> dict[str, Any] | None:
        """Call until there is a definite answer; None when it was given up, or refused for a good reason.

        ``may_be_unknown``: the service may not have heard yet of the order, or of its newest run.
        """
        give_up = may_give_up and self._random.random() < 0.1
        began = time.monotonic()
        while True:
            try:
                answer = self._session.request(method, f"{service.url}/api/v1{path}", json=body, timeout=10)
                if answer.status_code == 200:
                    result: dict[str, Any] = answer.json()
                    return result
                if answer.status_code < 500 and not (may_be_unknown and answer.status_code in (404, 409)):
                    self.ledger.refused.append(f"{path}: {answer.status_code} {answer.text}")
                    return None
            except requests.RequestException:
                pass
            self.ledger.retries += 1
            if give_up:
                self.ledger.abandoned += 1
                return None
            if time.monotonic() - began > _PATIENCE_S:
                raise TimeoutError(f"{path} was not answered for {_PATIENCE_S:g} s")
            time.sleep(self._random.uniform(0.01, 0.1))


class Load:
    """A few clients at once, numbered from ``first``; loads on one arena whose numbers differ share no order."""

    def __init__(
        self, arena: Arena, seed: int, *, clients: int = 4, orders: int = 40, first: int = 0, pause_s: float = 0.0
    ) -> None:
        self._stop = threading.Event()
        numbers = range(first, first + clients)
        #: The first client begins with it.
        self.first_order_id = f"o-{first}-1"
        self._clients = [
            Client(arena, seed, n, orders=orders // clients, pause_s=pause_s, stop=self._stop) for n in numbers
        ]

    def start(self) -> None:
        """Begin."""
        for client in self._clients:
            client.start()

    @property
    def notes_acked(self) -> int:
        """How many notes were acknowledged so far."""
        return sum(client.ledger.notes_acked for client in list(self._clients))

    def check(self) -> None:
        """Raise what ended a client."""
        for client in self._clients:
            if client.error is not None:
                raise client.error

    def stop(self) -> Ledger:
        """Let the clients finish their calls; answers what they were told."""
        self._stop.set()
        ledger = Ledger()
        for client in self._clients:
            client.join(_PATIENCE_S + 15)
            ledger.add(client.ledger)
        self.check()
        return ledger
