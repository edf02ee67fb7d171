"""The log lines of the peers: the sentences of the order communicator, by the standard library."""

from __future__ import annotations

import logging
import sys
import time


class _Utc(logging.Formatter):
    converter = staticmethod(time.gmtime)


def configure() -> logging.Logger:
    """A logger that writes to stderr, with times that `benchmarks.log_times` can read."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Utc("%(asctime)s.%(msecs)03dZ %(levelname)-5s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    log = logging.getLogger("peer")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False
    return log
