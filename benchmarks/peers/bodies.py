"""The bodies that the FastAPI peers read: the rules of the order communicator, as Pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]


class Strict(BaseModel):
    """A body without unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Initiate(Strict):
    """A buyer's order."""

    order_req_id: Id
    session_id: Id
    notification_type: Literal["email", "webhook", "none"]
    audience: list[Id] = []
    details: dict[str, Any] | None = None


class Message(Strict):
    """The message of a follow-up."""

    urls: list[Annotated[str, StringConstraints(max_length=2048, pattern=r"^https?://")]] = []
    message_type: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "text"
    message: Annotated[str, StringConstraints(max_length=10_000)] = ""


class FollowUp(Strict):
    """What a buyer adds to an order."""

    order_req_id: Id
    follow_up_id: Id | None = None
    audience: list[Id]
    message: Message


class Reply(Strict):
    """A seller's answer."""

    seller_id: Id
    answer: Literal["accepted", "declined", "message"]
    message: Annotated[str, StringConstraints(max_length=10_000)] = ""
    follow_up_id: str = ""
    reply_id: Id | None = None
