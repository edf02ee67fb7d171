"""What buyer and sellers do, step by step. Each step is told in one line."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from demo.rest import Service, eventually, submit
from demo.sellers import Receiver, reply_link

LAMP, SOFA, DESK = "DEMO-LAMP", "DEMO-SOFA", "DEMO-DESK"
MAIL, HOOK, BROKEN, LATE = "mail-seller", "hook-seller", "broken-seller", "late-seller"

_LOOK_S = 1.0


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


class Tour:
    """One walk through both services."""

    def __init__(self, requestor: Service, processor: Service, data: Path) -> None:
        self._requestor = requestor
        self._processor = processor
        self._data = data
        self._outbox = data / "outbox"
        self._receiver = Receiver(say)
        self._steps = 0

    def walk(self) -> None:
        """Everything, from the first seller to what can be looked at."""
        self._register_sellers()
        self._send_orders()
        self._send_notes()
        self._register_late_seller()
        self._answer()
        self._complete()
        self._see_one_fail()
        self._show()

    def follow(self) -> None:
        """Tell what happens to the orders from now on, for ever."""
        seen = {order: self._events(order, 0)["last_seq"] for order in (LAMP, SOFA, DESK)}
        while True:
            time.sleep(_LOOK_S)
            for order, after in seen.items():
                page = self._events(order, after)
                seen[order] = page["last_seq"]
                for event in page["events"]:
                    say(f"    {order}: {_in_words(event)}")

    # ---- the steps

    def _step(self, text: str) -> None:
        self._steps += 1
        say(f"{self._steps:2}. {text}")

    def _register_sellers(self) -> None:
        self._step(f"The processor learns of {MAIL}, who has a mail address.")
        self._processor.call("PUT", f"/sellers/{MAIL}", {"name": "Mail Seller", "email": _address(MAIL)})
        self._step(f"{HOOK} has a webhook, and gets the secret that its calls are signed with.")
        self._receiver.secrets[HOOK] = self._register_webhook(HOOK)
        self._step(f"{BROKEN} has a webhook too, but its server answers 500 to everything.")
        self._register_webhook(BROKEN)

    def _register_webhook(self, seller_id: str) -> str:
        answer = self._processor.call("PUT", f"/sellers/{seller_id}", {"webhook_url": self._receiver.url_of(seller_id)})
        return str(answer["webhook_secret"])

    def _send_orders(self) -> None:
        self._step(f"A buyer orders a lamp, by mail to {MAIL} and to {LATE}, whom nobody knows yet.")
        self._initiate(LAMP, "email", [MAIL, LATE], "lamp")
        said = self._initiate(LAMP, "email", [MAIL, LATE], "lamp")
        self._step(f"The buyer clicks once more. The requestor says: {said}")
        self._step(f"A sofa is ordered by webhook from {HOOK} and {BROKEN}, and a desk by mail from {MAIL}.")
        self._initiate(SOFA, "webhook", [HOOK, BROKEN], "sofa")
        self._initiate(DESK, "email", [MAIL], "desk")
        eventually(lambda: reply_link(self._outbox, _address(MAIL), "lamp"), "the mail about the lamp")

    def _initiate(self, order: str, channel: str, audience: list[str], item: str) -> str:
        body = {"order_req_id": order, "session_id": "demo", "notification_type": channel, "audience": audience}
        return str(self._requestor.call("POST", "/orders/initiate", {**body, "details": {"item": item}})["message"])

    def _send_notes(self) -> None:
        self._step("The buyer adds a note to the lamp and one to the sofa, for the same sellers.")
        self._note(LAMP, "lamp-note", [MAIL, LATE], "Is a green one possible?")
        self._note(SOFA, "sofa-note", [HOOK, BROKEN], "Third floor, no lift.")
        eventually(lambda: self._states(LAMP).get((LATE, "lamp-note")), "the note's delivery")
        self._step(f"Nothing is lost: what {LATE} should get stands as {self._states(LAMP)[LATE, 'lamp-note']}.")

    def _note(self, order: str, follow_up_id: str, audience: list[str], text: str) -> None:
        body = {"order_req_id": order, "follow_up_id": follow_up_id, "audience": audience}
        self._requestor.call("POST", "/orders/followup", {**body, "message": {"message": text}})

    def _register_late_seller(self) -> None:
        self._step(f"Now {LATE} is registered, with a mail address: the order and the note that waited are sent.")
        self._processor.call("PUT", f"/sellers/{LATE}", {"name": "Late Seller", "email": _address(LATE)})
        late = [(LATE, ""), (LATE, "lamp-note")]
        eventually(lambda: all(self._states(LAMP).get(key) == "delivered" for key in late), f"the mail to {LATE}")

    def _answer(self) -> None:
        self._step(f"{MAIL} opens the signed link of its mail about the lamp and accepts; nobody logs in anywhere.")
        link = reply_link(self._outbox, _address(MAIL), "lamp")
        submit(link, {"answer": "accepted", "message": "It will be sent tomorrow."})
        self._step(f"{HOOK} is a machine and answers by REST: it declines the sofa.")
        reply = {"reply_id": "sofa-1", "seller_id": HOOK, "answer": "declined", "message": "Sold out."}
        self._processor.call("POST", f"/orders/{SOFA}/replies", reply)
        for order in (LAMP, SOFA):
            (event,) = eventually(partial(self._replies, order), "the answer")
            self._step(f"The buyer sees it in the timeline of {order}: {_in_words(event)}")

    def _complete(self) -> None:
        eventually(lambda: self._states(DESK).get((MAIL, "")) == "delivered", "the mail about the desk")
        self._step("The buyer completes the desk; its stream is closed for good.")
        self._requestor.call("POST", f"/orders/{DESK}/complete", {"reason": "found one at home"})
        eventually(
            lambda: self._requestor.call("GET", f"/orders/{DESK}")["stream"]["state"] == "closed", "the desk's end"
        )

    def _see_one_fail(self) -> None:
        self._step(f"{BROKEN} is tried again after 1 and 2 seconds (in earnest: for two days), then given up.")
        eventually(
            lambda: self._processor.call("GET", "/deliveries?state=dead")["deliveries"], "the end of the attempts"
        )
        eventually(lambda: self._states(SOFA).get((BROKEN, "")) == "dead", "the news of it at the requestor")

    # ---- what there is to see

    def _show(self) -> None:
        say("\nHow the deliveries stand, as the buyer's side knows it:\n")
        for order in (LAMP, SOFA, DESK):
            for delivery in self._requestor.call("GET", f"/orders/{order}")["deliveries"]:
                say(f"    {order}  {_delivery_in_words(delivery)}")
        requestor, processor = f"{self._requestor.url}/api/v1", f"{self._processor.url}/api/v1"
        say(f"""
Look at:

    an order and its deliveries   {requestor}/orders/{LAMP}
    its timeline                  {requestor}/orders/{LAMP}/events
    what was given up             {processor}/deliveries?state=dead
    send that once more           POST {processor}/deliveries/retry
    the sellers                   {processor}/sellers
    metrics                       {self._requestor.url}/metrics  {self._processor.url}/metrics
    the mail (.eml files)         {self._outbox}
    the services' logs            {self._data}

Answer as {LATE}, in a browser:

    {reply_link(self._outbox, _address(LATE), "lamp")}
""")

    # ---- looking

    def _events(self, order: str, after: int) -> dict[str, Any]:
        page: dict[str, Any] = self._requestor.call("GET", f"/orders/{order}/events?after={after}&limit=1000")
        return page

    def _replies(self, order: str) -> list[dict[str, Any]]:
        return [event for event in self._events(order, 0)["events"] if event["kind"] == "seller_replied"]

    def _states(self, order: str) -> dict[tuple[str, str], str]:
        """The state of each delivery by seller and note, as the requestor has heard."""
        deliveries = self._requestor.call("GET", f"/orders/{order}")["deliveries"]
        return {(delivery["seller_id"], delivery["follow_up_id"]): delivery["state"] for delivery in deliveries}


def _address(seller_id: str) -> str:
    return f"{seller_id}@example.com"


def _in_words(event: dict[str, Any]) -> str:
    """An event of the timeline, for people."""
    data = event["data"]
    match event["kind"]:
        case "seller_replied":
            return f'{data["seller_id"]}: {data["answer"]}, "{data["message"]}"'
        case "delivery_changed":
            return _delivery_in_words(data)
        case kind:
            return str(kind)


def _delivery_in_words(delivery: dict[str, Any]) -> str:
    what = delivery["follow_up_id"] or "order"
    told = f"{what} to {delivery['seller_id']} by {delivery['channel']}: {delivery['state']}"
    return f"{told} ({delivery['last_error']})" if delivery["last_error"] else told
