"""Answers to polls: built once for all who ask within a moment, and sent only to those who do not have them yet.

A poll holds no thread: it is an ordinary call with the ETag of the answer before, and 304 is nearly all it costs. The
ETag names the state that an answer tells of. What grows at its end, such as a log, is sent beside the state from the
``after`` of the query on; that is no part of the ETag, since whoever has the state has its end, too.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeAlias

import orjson
from flask import Response, request

from service_kit.web.guard import optional_principal

#: How long an answer is taken for the present state, when nothing tells that it is not.
FRESH_S = 1.0
#: The same when a version says that nothing has changed.
SAME_VERSION_S = 10.0
#: What the kept answers may take as JSON; whoever asks for more makes pages slower, and nothing else.
MAX_KEPT_BYTES = 8 * 1024 * 1024
AFTER = "after"

#: A part of an answer: a JSON object.
Part: TypeAlias = dict[str, Any]


class _Kept(NamedTuple):
    etag: str
    state: Part
    version: Hashable
    until_s: float
    size: int


class PollAnswers:
    """The answers of one app. Any thread may ask; two that ask at once may both build."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: Guards the answers, their size and their generation.
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._kept_bytes = 0
        self._generation = 0

    def answer(
        self, state: Callable[[], Part], *, beside: Callable[[], Part] | None = None, version: Hashable = None
    ) -> Response:
        """Answer the current request with the state, or with 304 when the caller has it.

        With a ``version``, which is different whenever the state would be, it is kept for longer.
        """
        kept = self._find(state, version)
        if request.if_none_match.contains_weak(kept.etag):  # a proxy that compresses makes it a weak one
            response = Response(status=304)
        else:
            document = kept.state if beside is None else {**kept.state, **beside()}
            response = Response(orjson.dumps(document), content_type="application/json")
        response.set_etag(kept.etag)
        return response

    def forget(self) -> None:
        """Build every answer anew: something was just done, and whoever did it is to see so."""
        with self._lock:
            self._kept.clear()
            self._kept_bytes = 0
            self._generation += 1

    def _find(self, state: Callable[[], Part], version: Hashable) -> _Kept:
        # What one tenant was answered is not for another.
        key = (
            optional_principal(),
            request.path,
            *((name, value) for name, value in request.args.items(multi=True) if name != AFTER),
        )
        with self._lock:
            kept = self._kept.get(key)
            generation = self._generation
        now_s = self._clock()
        if kept is not None and kept.version == version and now_s < kept.until_s:
            return kept
        made = _made(state(), version, now_s)
        with self._lock:
            if generation == self._generation:
                self._keep(key, made)
        return made

    def _keep(self, key: Hashable, made: _Kept) -> None:
        """Keep an answer, and let the oldest go when there is no room."""
        replaced = self._kept.pop(key, None)
        self._kept[key] = made
        self._kept_bytes += made.size - (0 if replaced is None else replaced.size)
        while self._kept_bytes > MAX_KEPT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.size


def _made(state: Part, version: Hashable, now_s: float) -> _Kept:
    text = orjson.dumps(state)
    etag = hashlib.blake2b(text, digest_size=12).hexdigest()
    return _Kept(etag, state, version, now_s + (FRESH_S if version is None else SAME_VERSION_S), len(text))
