"""Tells the story: ``python -m demo REQUESTOR_URL PROCESSOR_URL OUTBOX_FOLDER``, with both services running."""

from __future__ import annotations

import argparse
import contextlib
import email
import email.policy
import itertools
import re
import threading
from pathlib import Path
from typing import Any

from demo.receivers import Receiver
from demo.rest import Service, send_form, wait_for

CHAIR, LAMP = "DEMO-CHAIR", "DEMO-LAMP"
_numbers = itertools.count(1)


def tell(text: str) -> None:
    """One step of the story."""
    print(f"{next(_numbers):2}. {text}", flush=True)


class Demo:
    """The buyer's system at the requestor, and the sellers at the processor."""

    def __init__(self, requestor: Service, processor: Service, outbox: Path) -> None:
        self.requestor = requestor
        self.processor = processor
        self.outbox = outbox
        self.willing, self.broken = Receiver(204), Receiver(500)

    def run(self) -> None:
        """Everything once."""
        self.register_sellers()
        self.send_orders()
        self.answer_by_mail()
        self.register_late_seller()
        self.finish_chair()
        self.show_failures()

    def register_sellers(self) -> None:
        """Three sellers enter the directory; a fourth is not known yet."""
        for seller_id, entry in (
            ("workshop", {"name": "The Workshop", "email": "workshop@example.com"}),
            ("depot", {"name": "The Depot", "webhook_url": self.willing.url, "channels": ["webhook"]}),
            ("attic", {"name": "The Attic", "webhook_url": self.broken.url}),
        ):
            self.processor.call("PUT", f"/sellers/{seller_id}", entry)
        tell("Registered three sellers: workshop reads mail, depot has a webhook, the webhook of attic always fails")

    def send_orders(self) -> None:
        """Two orders with a note each."""
        for order_id, channel, audience, details in (
            (CHAIR, "email", ["workshop", "newcomer"], {"item": "Garden chair", "quantity": 4}),
            (LAMP, "webhook", ["depot", "attic"], {"item": "Desk lamp", "quantity": 1}),
        ):
            order = {"order_req_id": order_id, "session_id": "demo", "notification_type": channel}
            self.requestor.post("/orders/initiate", {**order, "audience": audience, "details": details})
            note = {"urls": ["https://example.com/photo.jpg"], "message": "Could you ship it by Friday?"}
            self.requestor.post("/orders/followup", {"order_req_id": order_id, "audience": audience, "message": note})
            tell(f"Sent order {order_id} to {' and '.join(audience)} by {channel}, and a note")
        again = self.requestor.post("/orders/initiate", {**order, "audience": audience, "details": details})
        tell(f"Sent {LAMP} once more, as after a double click: {again['message']!r}, and no second stream")
        wait_for(lambda: len(self.willing.types) == 2)
        tell(f"The webhook of depot has received {' and '.join(self.willing.types)}")

    def answer_by_mail(self) -> None:
        """The workshop follows the link in its mail and accepts."""
        letter = wait_for(lambda: next(self.outbox.glob("*.eml"), None))
        wait_for(lambda: "delivered" in self.states_of(CHAIR, "workshop"))
        link = link_in(letter)
        tell(f"The workshop has its mail, with a link to answer: {link[:60]}…")
        send_form(link, answer="accepted", message="Gladly, by Thursday.")
        wait_for(lambda: "seller_replied" in self.timeline(CHAIR))
        tell("The workshop accepted behind the link, and the buyer sees it")

    def register_late_seller(self) -> None:
        """What waits for a seller goes when the seller has an address."""
        tell(f"What is for newcomer is {' and '.join(self.states_of(CHAIR, 'newcomer'))}: nobody knows its address yet")
        self.processor.call("PUT", "/sellers/newcomer", {"name": "The Newcomer", "email": "newcomer@example.com"})
        wait_for(lambda: set(self.states_of(CHAIR, "newcomer")) == {"delivered"})
        tell("Registered newcomer: order and note were sent at once")
        reply = {"seller_id": "newcomer", "answer": "declined", "message": "Sold out."}
        self.processor.post(f"/orders/{CHAIR}/replies", reply)
        tell("Newcomer declined through the REST interface")

    def finish_chair(self) -> None:
        """The buyer completes one order."""
        self.requestor.post(f"/orders/{CHAIR}/complete", {"reason": "delivered"})
        wait_for(lambda: "completed" in self.timeline(CHAIR))
        tell(f"Completed {CHAIR}: {', '.join(self.timeline(CHAIR))}")

    def show_failures(self) -> None:
        """What the attic does not take ends where a person finds it."""
        wait_for(lambda: self.processor.get("/deliveries?state=dead")["deliveries"])
        dead = self.processor.get("/deliveries?state=dead")["deliveries"][0]
        tell(f"After {dead['attempts']} attempts a delivery to {dead['seller_id']} is dead: {dead['last_error']}")

    def states_of(self, order_id: str, seller_id: str) -> list[str]:
        """How the seller's deliveries stand, as the buyer sees it."""
        deliveries: list[dict[str, Any]] = self.requestor.get(f"/orders/{order_id}")["deliveries"]
        return [delivery["state"] for delivery in deliveries if delivery["seller_id"] == seller_id]

    def timeline(self, order_id: str) -> list[str]:
        """The kinds of the order's events at the buyer's side."""
        return [event["kind"] for event in self.requestor.get(f"/orders/{order_id}/events")["events"]]


def link_in(letter: Path) -> str:
    """The reply link of a mail."""
    message = email.message_from_bytes(letter.read_bytes(), policy=email.policy.default)
    text = message.get_body(("plain",))
    found = re.search(r"https?://\S+/reply/\S+", text.get_content()) if text is not None else None
    if found is None:
        raise ValueError(f"{letter.name} has no link to answer")
    return found[0]


def main() -> int:
    """Tell the story, then say what to look at and stay until Ctrl+C."""
    parser = argparse.ArgumentParser(prog="dev.py demo", description=__doc__)
    parser.add_argument("requestor")
    parser.add_argument("processor")
    parser.add_argument("outbox", type=Path)
    parser.add_argument("--once", action="store_true", help="end after the story")
    options = parser.parse_args()
    Demo(Service(options.requestor), Service(options.processor), options.outbox).run()
    print(f"""
Look at
  {options.requestor}/api/v1/orders/{LAMP}           each note and seller, and why attic has nothing
  {options.requestor}/api/v1/orders/{CHAIR}/events   the timeline of an order
  {options.processor}/api/v1/deliveries?state=dead   what a person may send again
  {options.outbox}   the mail, as files""")
    if not options.once:
        print("\nCtrl+C ends the demo.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait(timeout=86_400)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
