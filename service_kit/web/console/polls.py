"""Answers to polls: built once for all who ask within a moment, and sent only to those who do not have them yet.

A poll holds no thread: it is an ordinary call with the ETag of the answer before, and 304 is nearly all it costs.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import orjson
from flask import Response, request

#: How long an answer is taken for the present state, when nothing tells that it is not.
FRESH_S = 1.0
#: The same when a version says that nothing has changed.
SAME_VERSION_S = 10.0
#: Answers that are kept; whoever asks for more kinds of lists than this makes their pages slower, and nothing else.
MAX_KEPT = 128


class _Kept(NamedTuple):
    etag: str
    body: bytes
    version: Hashable
    until_s: float


class PollAnswers:
    """The answers of one app. Any thread may ask; two that ask at once may both build."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: Guards the dict.
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._generation = 0

    def answer(self, make: Callable[[], dict[str, Any]], *, version: Hashable = None) -> Response:
        """Answer the current request with what ``make`` gives, or with 304 when the caller has it.

        With a ``version``, which is different whenever the answer would be, an answer is kept for longer.
        """
        kept = self._find(request.full_path, make, version)
        if request.if_none_match.contains_weak(kept.etag):  # a proxy that compresses makes it a weak one
            response = Response(status=304)
        else:
            response = Response(kept.body, content_type="application/json")
        response.set_etag(kept.etag)
        return response

    def forget(self) -> None:
        """Build every answer anew: something was just done, and whoever did it is to see so."""
        with self._lock:
            self._kept.clear()
            self._generation += 1

    def _find(self, key: str, make: Callable[[], dict[str, Any]], version: Hashable) -> _Kept:
        with self._lock:
            kept = self._kept.get(key)
            generation = self._generation
        now_s = self._clock()
        if kept is not None and kept.version == version and now_s < kept.until_s:
            return kept
        body = orjson.dumps(make())
        etag = hashlib.blake2b(body, digest_size=12).hexdigest()
        made = _Kept(etag, body, version, now_s + (FRESH_S if version is None else SAME_VERSION_S))
        with self._lock:
            if generation == self._generation:
                self._kept[key] = made
                self._kept.move_to_end(key)
                if len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
        return made
