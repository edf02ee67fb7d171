"""Points in time: milliseconds since 1970 inside, RFC 3339 in UTC outside."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)


def now_ms() -> int:
    """The current time of the wall clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def rfc3339(ms: int) -> str:
    """The time as text in UTC with milliseconds, such as ``2026-11-23T12:00:00.123Z``."""
    second, rest_ms = divmod(ms, 1000)
    return f"{_text_of_second(second)}.{rest_ms:03d}Z"


def parse_rfc3339(text: str) -> int:
    """The milliseconds since 1970 of an RFC 3339 text; finer digits are cut off. Raises `ValueError`."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 time with an offset")
    seconds, fraction, offset = match.groups()
    moment = datetime.fromisoformat(seconds + ("+00:00" if offset == "Z" else offset))
    whole_s = (moment - _EPOCH) // timedelta(seconds=1)
    return whole_s * 1000 + int((fraction or "0")[:3].ljust(3, "0"))


# Log lines and events of one moment share their second, so nearly every call is answered from here.
@lru_cache(maxsize=256)
def _text_of_second(second: int) -> str:
    return (_EPOCH + timedelta(seconds=second)).isoformat().removesuffix("+00:00")
