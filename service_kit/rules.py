"""The rules for what comes in, the same at the REST edge and at the gRPC edge. Sizes are in characters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

#: Every identifier that a caller chooses.
ID_PATTERN = re.compile(r"[A-Za-z0-9._:-]{1,128}")
ID_RULE = "must be 1 to 128 characters out of A-Z, a-z, 0-9 and . _ : -"

#: The kind of a message, such as "text".
KIND_PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,31}")
KIND_RULE = "must be 1 to 32 characters out of a-z, 0-9, _ and -, starting with a letter"

NOTIFICATION_TYPES = ("email", "webhook", "none")
MAX_AUDIENCE = 100
MAX_URLS = 20
MAX_URL = 2_048
MAX_TEXT = 10_000
MAX_REASON = 500
MAX_DETAILS = 32_768
MAX_EMAIL = 254
MAX_TOKEN = 2**63 - 1

# What changes the direction of the text around it or is not seen: marks, embeddings, overrides, isolates, spaces of no
# width. (The joiners U+200C and U+200D are not among them: some scripts cannot be written without.)
_UNSEEN = r"\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
_UNSEEN_CHARACTERS = re.compile(f"[{_UNSEEN}]")
# C0 and C1 controls but tab, line feed and carriage return; and lone surrogates, which no encoding carries.
TEXT_PATTERN = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$"  # the same, as JSON Schema writes it
_FORBIDDEN_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# What could end a header or begin another one, in any program on the way.
_FORBIDDEN_HEADER = re.compile(rf"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{_UNSEEN}]")
_EMAIL = re.compile(
    r"(?=[^@]{1,64}@)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_FORBIDDEN_URL = re.compile(rf"[\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff\\{_UNSEEN}]")


def text_fault(text: str, max_length: int) -> str | None:
    """What is wrong with a free text, or None."""
    if len(text) > max_length:
        return f"must be at most {max_length} characters long"
    if _FORBIDDEN_TEXT.search(text):
        return "must not contain control characters"
    return None


def header_fault(text: str) -> str | None:
    """What is wrong with a text that may become part of a header or names somebody, or None."""
    if _FORBIDDEN_HEADER.search(text):
        return "must not contain line ends, control characters or characters that are not seen"
    return None


def details_fault(details: Mapping[str, Any]) -> str | None:
    """What is wrong with an order's details, or None: as many texts as fit, each without control characters."""
    text = json.dumps(details, ensure_ascii=False)
    if len(text) > MAX_DETAILS:
        return f"must be at most {MAX_DETAILS} characters long as JSON"
    # Nearly no document has an escape in it; only then each text is looked at.
    if ("\\" in text or _FORBIDDEN_TEXT.search(text)) and any(map(_FORBIDDEN_TEXT.search, _texts(details))):
        return "must not contain control characters"
    return None


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from value
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def one_line(text: str) -> str:
    """A text for a place in a line of ours: on one line, and without what changes the direction of what follows."""
    return " ".join(_UNSEEN_CHARACTERS.sub("", text).split())


def email_fault(address: str) -> str | None:
    """What is wrong with a mail address, or None. The plain form in ASCII; a domain in other letters comes as xn--."""
    if len(address) > MAX_EMAIL:
        return f"must be at most {MAX_EMAIL} characters long"
    return None if _EMAIL.fullmatch(address) else "must be a mail address, such as seller@example.com"


def message_fault(text: str, urls: Sequence[str]) -> str | None:
    """What is wrong with a message that has this text and these links, or None: it must say something."""
    return None if text.strip() or urls else "must have a text or a link"


def audience_fault(sellers: Sequence[str]) -> str | None:
    """What is wrong with a list of sellers, or None: nobody is named twice, and not too many are."""
    if len(sellers) > MAX_AUDIENCE:
        return f"must have at most {MAX_AUDIENCE} sellers"
    return "must not name anybody twice" if len(set(sellers)) != len(sellers) else None


def url_fault(url: str) -> str | None:
    """What is wrong with a link to show to a seller, or None: http or https, with a host, without user and password."""
    if len(url) > MAX_URL:
        return f"must be at most {MAX_URL} characters long"
    if _FORBIDDEN_URL.search(url):
        return "must not contain spaces, backslashes, control characters or characters that are not seen"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "must be an http or https URL"
    if parts.scheme not in ("http", "https") or not host:
        return "must be an http or https URL"
    if parts.username is not None or parts.password is not None:
        return "must not carry a user name or password"
    return None
