"""A parcel as an e-mail: text and HTML, one conversation for each order, and nothing in the headers but our own.

The bytes of a mail depend on the parcel alone, so every attempt carries the same mail under the same Message-ID.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address, HeaderRegistry, MessageIDHeader
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from processor_app.delivery.channel import Parcel
from processor_app.delivery.details import details_of
from processor_app.phrases import LANGUAGES, language_of
from service_kit.rules import email_fault, header_fault
from service_kit.settings import Parser

TEMPLATES_FOLDER = Path(__file__).resolve().parent.parent / "templates"

_PRINTABLE_LINE = re.compile(rb"[\t -~]{1,998}")
_MAILBOX = re.compile(r"(?P<name>[^<>\"@]{1,60}?) *<(?P<address>[^<>]+)>")


class MailRefused(ValueError):
    """A parcel cannot be made a mail; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mail address with a name for people."""

    address: str
    name: str = ""

    @property
    def domain(self) -> str:
        """What stands behind the @."""
        return self.address.rpartition("@")[2]

    def __str__(self) -> str:
        return f"{self.name} <{self.address}>" if self.name else self.address


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail as it is handed over; ``name`` is the part of its Message-ID before the @."""

    sender: str
    receiver: str
    name: str
    content: bytes


def mailbox() -> Parser[Mailbox]:
    """A mail address, or a name and a mail address."""
    rule = "must be a mail address, or a name of at most 60 characters and an address"
    return Parser(_read_mailbox, rule, "Orders <orders@example.com>")


def _read_mailbox(raw: str) -> Mailbox:
    match = _MAILBOX.fullmatch(raw)
    box = Mailbox(match["address"], match["name"].strip()) if match else Mailbox(raw)
    if email_fault(box.address) or header_fault(box.name):
        raise ValueError("not a mailbox")
    return box


class MailWriter:
    """Writes mails in the name of one sender."""

    def __init__(self, sender: Mailbox) -> None:
        self._sender = sender
        registry = HeaderRegistry()
        for name in ("References", "In-Reply-To"):
            # As an unstructured text, an id that is longer than a line would be encoded and name nothing any more.
            registry.map_to_type(name, MessageIDHeader)  # type: ignore[arg-type] # a mixin, as the registry wants
        self._policy: Final = SMTP.clone(header_factory=registry)
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES_FOLDER),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def write(self, parcel: Parcel) -> Mail:
        """The mail of a parcel. Raises `MailRefused`."""
        headers = self._headers(parcel)
        for name, value in headers:
            if header_fault(value):
                raise MailRefused(f"the header {name} would have a line end or a control character")
        if email_fault(parcel.seller.email):
            raise MailRefused("the seller's address is not a mail address")
        name = _name_of("delivery", parcel.delivery_id)
        return Mail(self._sender.address, parcel.seller.email, name, self._bytes(parcel, headers, name))

    def _headers(self, parcel: Parcel) -> list[tuple[str, str]]:
        """What comes from outside; every part of it is checked before it becomes a header."""
        subject = LANGUAGES[language_of(parcel.seller.language)]["subject"].format(order=parcel.order_req_id)
        root = self._message_id(_name_of("order", parcel.order_req_id, parcel.seller.seller_id))
        headers = [
            ("To", parcel.seller.email),
            ("Subject", subject if parcel.kind == "order" else f"Re: {subject}"),
            ("Message-ID", self._message_id(_name_of("delivery", parcel.delivery_id))),
            # The root need not exist: mail programs join what refers to the same one.
            ("References", root),
            ("Auto-Submitted", "auto-generated"),
        ]
        if parcel.origin.request_id:
            headers.append(("X-Request-ID", parcel.origin.request_id))
        if parcel.origin.traceparent:  # the trace alone: a span's id would differ from one attempt to the next
            headers.append(("X-Trace-ID", parcel.origin.trace_id))
        return headers if parcel.kind == "order" else [*headers, ("In-Reply-To", root)]

    def _message_id(self, name: str) -> str:
        return f"<{name}@{self._sender.domain}>"

    def _bytes(self, parcel: Parcel, headers: Sequence[tuple[str, str]], name: str) -> bytes:
        message = EmailMessage(policy=self._policy)
        message["From"] = Address(display_name=self._sender.name, addr_spec=self._sender.address)
        message["Date"] = datetime.fromtimestamp(parcel.created_ms // 1000, UTC)
        for header, value in headers:
            message[header] = value
        # Quoted-printable keeps lines short, dots and "From " as they are, and "=_" out of both parts, so that no text
        # can look like the boundary.
        message.set_content(self._rendered("mail/message.txt", parcel), cte="quoted-printable")
        message.add_alternative(self._rendered("mail/message.html", parcel), subtype="html", cte="quoted-printable")
        message.set_boundary(f"=_{name}")
        content = message.as_bytes()
        _check_head(content, [header for header, _ in headers])
        return content

    def _rendered(self, template: str, parcel: Parcel) -> str:
        language = language_of(parcel.seller.language)
        return self._templates.get_template(template).render(
            parcel=parcel, details=details_of(parcel.details), language=language, t=LANGUAGES[language]
        )


def _name_of(*parts: str) -> str:
    """A name for a Message-ID: any id may be in it, and none can be read out of it."""
    return f"{parts[0]}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:40]}"


def _check_head(content: bytes, names: Sequence[str]) -> None:
    """Look at the head as a receiver would: our headers, each once, in printable ASCII, and nothing else."""
    head = content.partition(b"\r\n\r\n")[0].split(b"\r\n")
    found = [line.partition(b":")[0].decode("ascii", "replace") for line in head if line[:1] not in (b" ", b"\t")]
    expected = {"From", "Date", "MIME-Version", "Content-Type", *names}
    if sorted(found) != sorted(expected) or not all(_PRINTABLE_LINE.fullmatch(line) for line in head):
        raise MailRefused("the head of the mail would not be what it should be")
