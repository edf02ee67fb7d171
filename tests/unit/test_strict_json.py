from __future__ import annotations

import json
import re

import pytest

from service_kit.errors import MalformedInput
from service_kit.strict_json import MAX_DEPTH, parse_json_object


def nested(levels: int) -> bytes:
    return b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (b"", "not valid JSON (line 1, column 1)"),
        (b"{", "not valid JSON (line 1, column 2)"),
        (b"{} {}", "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b'{"a": "\t"}', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not valid UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not valid"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b'"text"', "not an object"),
        (b'{"a": 1, "a": 1}', "same member twice"),
        (b'{"a": {"b": 1, "\\u0062": 2}}', "same member twice"),
        (b'{"a": NaN}', "NaN or Infinity"),
        (b'{"a": [-Infinity]}', "NaN or Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 9223372036854775808}', "64 bits"),
        (b'{"a": -9223372036854775809}', "64 bits"),
        (b'{"a": ' + b"9" * 60_000 + b"}", "64 bits"),
        (b'{"a": "\\ud800"}', "no character"),
        (b'{"\\uDC00": 1}', "no character"),
        (nested(MAX_DEPTH + 1), "nested deeper"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "nested deeper"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested deeper"),
        (b"[" * 60_000, "nested deeper"),
    ],
)
def test_what_could_be_misread_is_refused(raw: bytes, detail: str) -> None:
    with pytest.raises(MalformedInput, match=re.escape(detail)):
        parse_json_object(raw)


@pytest.mark.parametrize(
    "raw",
    [
        nested(MAX_DEPTH),
        b'{"a": "' + b"[{" * 100 + b'"}',
        b'{"a": [' + b"{}," * 100 + b"{}]}",
        b'{"a": "\\ud83d\\ude00"}',
        b'{"a": "\\\\ud800"}',
        b' \r\n\t{"a": 9223372036854775807}\n',
    ],
)
def test_what_only_looks_dangerous_is_read(raw: bytes) -> None:
    assert parse_json_object(raw) == json.loads(raw)
