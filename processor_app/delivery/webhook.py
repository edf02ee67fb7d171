"""The webhook channel: Standard Webhooks over plain sockets.

One attempt is one POST to an address that the guard has checked: no redirect is followed, no proxy of the environment
is asked, and of the answer nothing but its head is read, within one deadline. A receiver knows a repetition by the
constant ``webhook-id``, so an answer that was lost is simply tried again.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from processor_app.delivery.addresses import AddressGuard, AddressRefused
from processor_app.delivery.channel import AttemptResult, Parcel, Seller, Verdict
from processor_app.delivery.deadline import (
    Bounds,
    BoundSocket,
    BoundTlsContext,
    Resolver,
    TooMuchReceived,
    connect,
    resolve,
    system_resolver,
    verifying_context,
)
from processor_app.delivery.webhook_signing import signatures
from processor_app.delivery.webhook_url import UrlRefused, WebhookUrl, parse_webhook_url
from service_kit.logs import get_logger
from service_kit.networks import IpNetwork
from service_kit.origin import Origin
from service_kit.rules import ID_PATTERN
from service_kit.times import rfc3339
from service_kit.version import VERSION

#: The whole attempt: look-up, connection, TLS, request and the head of the answer.
DEFAULT_TIMEOUT_S = 15.0
MAX_RECEIVED = 65_536
#: A receiver cannot put us off for longer.
MAX_RETRY_AFTER_S = 86_400.0

_SECONDS = re.compile(r"[0-9]{1,10}")
_EVENT_TYPES = {"order": "order.created", "follow_up": "follow_up.created"}

_UNREACHABLE = "The receiver's host cannot be found or reached."
#: What went wrong, the special before the general.
_SENTENCES: tuple[tuple[type[Exception], str], ...] = (
    (ssl.SSLError, "TLS with the receiver failed."),
    (TimeoutError, "The receiver did not answer in time."),
    (ConnectionRefusedError, "The receiver's host refused the connection."),
    (ConnectionError, "The connection was lost before an answer came; the receiver may have got the webhook."),
    (TooMuchReceived, "The receiver's answer is too long."),
    (http.client.HTTPException, "The receiver's answer is not HTTP."),
)

_log = get_logger(__name__)


class WebhookChannel:
    """Posts parcels to the sellers' URLs."""

    name = "webhook"

    def __init__(
        self,
        opened_networks: Sequence[IpNetwork] = (),
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        resolver: Resolver = system_resolver,
        tls_context: BoundTlsContext | None = None,
    ) -> None:
        self._guard = AddressGuard(opened_networks)
        self._timeout_s = timeout_s
        self._resolver = resolver
        self._tls_context = tls_context or verifying_context()

    def has_address(self, seller: Seller) -> bool:
        """Whether there is a URL that is not disabled."""
        return bool(seller.webhook_url and seller.webhook_secrets and not seller.webhook_disabled)

    def send(self, parcel: Parcel) -> AttemptResult:
        """Post once."""
        try:
            url = parse_webhook_url(parcel.seller.webhook_url)
            status, retry_after = self._post(url, _request(parcel, url))
        except UrlRefused as refusal:
            return AttemptResult(Verdict.FAILED, f"Not sent: {refusal}.")
        except (AddressRefused, OSError, http.client.HTTPException) as failure:
            return AttemptResult(Verdict.RETRY, _sentence(failure))
        except Exception as error:  # noqa: BLE001 - a channel raises nothing; the log has the reason
            _log.error("A webhook could not be sent", action="webhook.failed", exc_info=error)
            return AttemptResult(Verdict.FAILED, "The webhook could not be made; see the processor's log.")
        return _result(status, retry_after)

    def _post(self, url: WebhookUrl, request: bytes) -> tuple[int, str | None]:
        """The status of the answer and its Retry-After."""
        bounds = Bounds(self._timeout_s, MAX_RECEIVED)
        addresses = self._guard.choose(resolve(url.host, url.port, bounds, self._resolver))
        with closing(self._secured(connect(addresses, bounds), url)) as connection:
            # Head and body at once: a receiver that answers after the head finds nothing unread when it closes.
            connection.sendall(request)
            with closing(http.client.HTTPResponse(connection, method="POST")) as answer:
                answer.begin()
                return answer.status, answer.getheader("Retry-After")

    def _secured(self, plain: BoundSocket, url: WebhookUrl) -> BoundSocket | ssl.SSLSocket:
        if url.scheme == "http":
            return plain
        try:
            # The name that the seller wrote, not the address: it is what the certificate must be for.
            return self._tls_context.wrap_socket(plain, server_hostname=url.host)
        except BaseException:
            plain.close()
            raise


def body_of(parcel: Parcel) -> bytes:
    """The JSON document of a parcel, the same at every attempt."""
    data: dict[str, Any] = {
        "delivery_id": parcel.delivery_id,
        "order_req_id": parcel.order_req_id,
        "session_id": parcel.session_id,
        "seller_id": parcel.seller.seller_id,
        "reply_url": parcel.reply_url,
    }
    if parcel.kind == "order":
        data["details"] = None if parcel.details is None else dict(parcel.details)
    else:
        data["follow_up_id"] = parcel.follow_up_id
        data["message"] = {
            "message_type": parcel.message_type,
            "message": parcel.message,
            "urls": list(parcel.urls),
        }
    document = {"type": _EVENT_TYPES[parcel.kind], "timestamp": rfc3339(parcel.created_ms), "data": data}
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _request(parcel: Parcel, url: WebhookUrl) -> bytes:
    """The request as it goes over the wire. Raises `ValueError` for a parcel that cannot be signed."""
    if not ID_PATTERN.fullmatch(parcel.delivery_id):
        raise ValueError("a delivery's id cannot stand in a header")
    body = body_of(parcel)
    timestamp_s = int(time.time())
    head = [
        f"POST {url.target} HTTP/1.1",
        f"Host: {url.authority}",
        f"User-Agent: order-communicator/{VERSION}",
        "Accept: */*",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"webhook-id: {parcel.delivery_id}",
        f"webhook-timestamp: {timestamp_s}",
        f"webhook-signature: {signatures(parcel.delivery_id, timestamp_s, body, parcel.seller.webhook_secrets)}",
        *_origin_headers(parcel.origin),
    ]
    return "\r\n".join([*head, "", ""]).encode("ascii") + body


def _origin_headers(origin: Origin) -> list[str]:
    """The buyer's request, so that its trace goes on at the receiver."""
    headers = [f"traceparent: {origin.traceparent}"] if origin.traceparent else []
    return [*headers, f"X-Request-ID: {origin.request_id}"] if origin.request_id else headers


def _result(status: int, retry_after: str | None) -> AttemptResult:
    detail = f"The receiver answered {status}."
    if 200 <= status < 300:
        return AttemptResult(Verdict.DELIVERED, detail)
    if status == 410:
        return AttemptResult(Verdict.GONE, "The receiver answered 410: it wants no more webhooks at this URL.")
    if 300 <= status < 400:
        detail = f"The receiver answered {status}; redirects are not followed."
    return AttemptResult(Verdict.RETRY, detail, retry_after_s=parse_retry_after(retry_after, time.time()))


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """The seconds that a Retry-After asks for (a number or an HTTP date), at most a day; None for any other text."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value.strip()):
        wish_s = float(value)
    else:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        # A date without a zone is in UTC (RFC 9110).
        wish_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s
    return min(max(wish_s, 0.0), MAX_RETRY_AFTER_S)


def _sentence(failure: AddressRefused | OSError | http.client.HTTPException) -> str:
    """What went wrong, in words for people; nothing of the receiver's answer is repeated."""
    if isinstance(failure, AddressRefused):
        return f"Not sent: {failure}."
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"The receiver's certificate is not valid: {failure.verify_message}."
    return next((sentence for kind, sentence in _SENTENCES if isinstance(failure, kind)), _UNREACHABLE)
