"""Cursors of the Redis engine: where a list of records or of messages goes on."""

from __future__ import annotations

import base64
import binascii
import re

from service_kit.errors import FieldError, InvalidInput
from service_kit.storage.redis_values import ID_LENGTH

_ID = re.compile(rb"[0-9a-f]{%d}" % ID_LENGTH)
_PLACE = re.compile(rb"[0-9a-f]{16}[0-9a-f]{%d}[^\0]+" % ID_LENGTH)


def cursor_of_id(member: bytes) -> str:
    """The text that stands for the last record of a page, by its member of an index."""
    return _cursor_of(member[:ID_LENGTH])


def id_of_cursor(cursor: str) -> bytes:
    """The record's id back. Raises `InvalidInput` for a text that `cursor_of_id` never made."""
    return _read(cursor, _ID)


def cursor_of_place(place: bytes) -> str:
    """The text that stands for the last message of a page."""
    return _cursor_of(place)


def place_of_cursor(cursor: str) -> bytes:
    """The message's place back, as an index compares it. Raises `InvalidInput`."""
    return _read(cursor, _PLACE) + b"\0"


def _cursor_of(place: bytes) -> str:
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def _read(cursor: str, form: re.Pattern[bytes]) -> bytes:
    try:
        place = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        place = b""
    if not form.fullmatch(place) or _cursor_of(place) != cursor:
        raise InvalidInput([FieldError("/cursor", "must be the next_cursor of an earlier page")])
    return place
