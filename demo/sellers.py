"""The sellers' side: a receiver of webhooks, and a reader of the mail folder."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import hmac
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_REPLY_LINK = re.compile(r"http\S+/reply/\S+")


class Receiver(ThreadingHTTPServer):
    """Takes webhooks at one path for each seller; a seller without a secret here answers 500 to everything."""

    daemon_threads = True

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tell = tell
        self.secrets: dict[str, str] = {}
        threading.Thread(target=self.serve_forever, name="webhooks", daemon=True).start()

    def url_of(self, seller_id: str) -> str:
        """Where the seller receives its webhooks."""
        return f"http://127.0.0.1:{self.server_address[1]}/{seller_id}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """Check the signature, and say what came."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        seller_id = self.path.lstrip("/")
        secret = self.server.secrets.get(seller_id)
        status = 500 if secret is None else 204 if self._is_signed(secret, body) else 401
        event = json.loads(body)
        what = f"{event['type']} of {event['data']['order_req_id']}"
        self.server.tell(f"    {seller_id} gets {what} by webhook and answers {status}")
        self.send_response(status)
        self.end_headers()

    def _is_signed(self, secret: str, body: bytes) -> bool:
        """Whether the body was signed as Standard Webhooks says; a library does this for a real receiver."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        head = f"{self.headers.get('webhook-id')}.{self.headers.get('webhook-timestamp')}.".encode()
        wanted = "v1," + base64.b64encode(hmac.digest(key, head + body, hashlib.sha256)).decode()
        given = self.headers.get("webhook-signature", "").split()
        return any(hmac.compare_digest(wanted.encode(), signature.encode()) for signature in given)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what came has been told."""


def reply_link(outbox: Path, address: str, words: str) -> str:
    """The reply link of the mail to an address that contains these words; "" when there is no such mail yet."""
    for path in sorted(outbox.glob("*.eml")):
        mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        text = mail.get_body(("plain",))
        content = "" if text is None else str(text.get_content())
        found = _REPLY_LINK.search(content)
        if found and address in str(mail["To"]) and words in content:
            return found.group()
    return ""
