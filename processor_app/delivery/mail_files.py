"""Mail as files: what a processor without a mail server does, so that a first run shows real mail."""

from __future__ import annotations

from pathlib import Path

from processor_app.delivery.channel import AttemptResult, Verdict
from processor_app.delivery.mail_message import Mail
from processor_app.durable_file import write_whole


class MailFolder:
    """Writes each mail as an .eml file, which any mail program opens; a repetition takes its predecessor's place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hand_over(self, mail: Mail) -> AttemptResult:
        """Write the file wholly or not at all."""
        path = self._folder / f"{mail.name}.eml"
        try:
            write_whole(path, mail.content)
        except OSError as failure:
            reason = failure.strerror or "unknown reason"
            return AttemptResult(Verdict.RETRY, f"The mail could not be written to a file: {reason}.")
        return AttemptResult(Verdict.DELIVERED, f"Written to {path.name}; no mail server is set.")
