"""The e-mail channel: a parcel is written as a mail, and a carrier hands the mail over."""

from __future__ import annotations

from typing import Protocol

from processor_app.delivery.channel import AttemptResult, Parcel, Seller, Verdict
from processor_app.delivery.mail_message import Mail, MailRefused, MailWriter
from service_kit.logs import get_logger

_log = get_logger(__name__)


class MailCarrier(Protocol):
    """Takes a mail to where it goes: a mail server, or a folder."""

    def hand_over(self, mail: Mail) -> AttemptResult:
        """Try once, within a deadline of its own."""


class EmailChannel:
    """Sends parcels by e-mail."""

    name = "email"

    def __init__(self, writer: MailWriter, carrier: MailCarrier) -> None:
        self._writer = writer
        self._carrier = carrier

    def has_address(self, seller: Seller) -> bool:
        """Whether the seller has a mail address."""
        return bool(seller.email)

    def send(self, parcel: Parcel) -> AttemptResult:
        """Write the mail and hand it over once."""
        try:
            mail = self._writer.write(parcel)
        except MailRefused as refusal:
            return AttemptResult(Verdict.FAILED, f"Not sent: {refusal}.")
        except Exception as error:  # noqa: BLE001 - a channel raises nothing; the log has the reason
            _log.error("A mail could not be written", action="mail.failed", exc_info=error)
            return AttemptResult(Verdict.FAILED, "The mail could not be written; see the processor's log.")
        return self._carrier.hand_over(mail)
