"""What a seller may do with a reply link, and what was done with it already.

A link leads to one *case*: one seller's answer to one run of an order, or to one follow-up. It takes one final answer
(accepted or declined) and, before that, a few messages. Each has an id that is made from the link, so the store itself
refuses a second final answer and knows a repeated post; nothing is kept for a link beside the order's events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from processor_app.domain import (
    Answer,
    IdTaken,
    Order,
    OrderFinished,
    OrderNotFound,
    Reply,
    RunEnded,
    note_entry_id,
    order_of,
    reply_entry_id,
)
from processor_app.orders import Orders
from processor_app.replies.links import ReplyLink, ReplyLinks
from service_kit.change import Body, Entry, Ref, Snapshot, Step
from service_kit.rules import text_fault
from service_kit.storage.contract import Store
from service_kit.times import now_ms

#: How often a seller may write back before the final answer, by one link.
MAX_MESSAGES = 5
#: In characters. However they are quoted, a form with so many fits in a request.
MAX_MESSAGE = 4_000


class Fault(StrEnum):
    """Why a post was not taken; the value names the phrase that says so, where there is one."""

    CHOICE = "fault_choice"
    EMPTY = "fault_empty"
    LONG = "fault_long"
    CHARACTERS = "fault_characters"
    #: Another post was quicker, or the order has ended: how the case stands now says why.
    CROSSED = "fault_crossed"


@dataclass(frozen=True, slots=True)
class Said:
    """What a seller has answered."""

    answer: Answer
    message: str


@dataclass(frozen=True, slots=True)
class Case:
    """What a link leads to now. ``note`` is the follow-up's content, None when the link is for the order itself."""

    link: ReplyLink
    order: Order
    note: Body | None
    final: Said | None
    messages: tuple[Said, ...]

    @property
    def is_over(self) -> bool:
        """Whether the run that the link is for has ended."""
        return self.order.is_finished or self.order.run != self.link.run

    @property
    def messages_left(self) -> int:
        """How many more messages may be written before the final answer."""
        return MAX_MESSAGES - len(self.messages)

    @property
    def next_number(self) -> int | None:
        """The number of the next message; None when there may be no more."""
        return len(self.messages) + 1 if self.messages_left else None


@dataclass(frozen=True, slots=True)
class Post:
    """What a seller sends by the form, as it comes. ``number`` is the message's, as the form was made with it."""

    answer: str
    message: str
    number: str


class ReplyDesk:
    """Opens cases and takes answers."""

    def __init__(self, store: Store, orders: Orders, links: ReplyLinks) -> None:
        self._store = store
        self._orders = orders
        self._links = links

    def open(self, token: str) -> Case:
        """The case that a token leads to; changes nothing. Raises `LinkInvalid`, `LinkExpired` or `OrderNotFound`."""
        link = self._links.read(token, now_ms())
        numbers = range(1, MAX_MESSAGES + 1)
        reply_ids = [reply_entry_id(reply_id) for reply_id in (link.answer_id, *map(link.message_id, numbers))]
        note_id = note_entry_id(link.follow_up_id)
        snapshot = self._look(link.ref, (note_id, *reply_ids))
        if snapshot.record is None:
            raise OrderNotFound("No order has this id.")
        note = snapshot.entries.get(note_id) if link.follow_up_id else None
        final, *messages = [_said(snapshot.entries, reply_id) for reply_id in reply_ids]
        return Case(
            link=link,
            order=order_of(snapshot.record),
            note=None if note is None else note.body,
            final=final,
            messages=tuple(said for said in messages if said is not None),
        )

    def _look(self, ref: Ref, entry_ids: tuple[str, ...]) -> Snapshot:
        """The record and these entries as of one moment, by a step that decides to change nothing."""
        seen: list[Snapshot] = []
        self._store.update(Step(ref, seen.append, entry_ids=entry_ids))
        return seen[-1]

    def take(self, case: Case, post: Post) -> Fault | None:
        """Take an answer as one event; taking the same again changes nothing. Answers why not when it is not taken."""
        message = "\n".join(post.message.splitlines()).strip()
        fault = _fault_of(case, post, message)
        if fault is not None:
            return fault
        answer = Answer(post.answer)
        reply_id = case.link.answer_id
        if answer is Answer.MESSAGE:
            reply_id = case.link.message_id(int(post.number))
        reply = Reply(
            ref=case.link.ref,
            reply_id=reply_id,
            seller_id=case.link.seller_id,
            answer=answer,
            message=message,
            follow_up_id=case.link.follow_up_id,
            run=case.link.run,
        )
        try:
            self._orders.reply(reply)
        except (IdTaken, OrderFinished, RunEnded):
            return Fault.CROSSED
        return None


def _said(entries: Mapping[str, Entry], entry_id: str) -> Said | None:
    entry = entries.get(entry_id)
    return None if entry is None else Said(Answer(entry.body["answer"]), entry.body["message"])


def _fault_of(case: Case, post: Post, message: str) -> Fault | None:
    if post.answer not in set(Answer):
        return Fault.CHOICE
    if post.answer == Answer.MESSAGE:
        if case.final is not None:
            return Fault.CROSSED
        if post.number not in {str(number) for number in range(1, MAX_MESSAGES + 1)}:
            return Fault.CHOICE
        if not message:
            return Fault.EMPTY
    if len(message) > MAX_MESSAGE:
        return Fault.LONG
    return Fault.CHARACTERS if text_fault(message, MAX_MESSAGE) else None
