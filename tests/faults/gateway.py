"""Lets a driver outside a network namespace call a service that listens on the namespace's own loopback interface.

Run in the namespace: ``python -m tests.faults.gateway HOST PORT``. Without keys no service listens where other machines
can reach it.
"""

from __future__ import annotations

import sys
import threading

from tests.faults.relay import Relay

if __name__ == "__main__":
    host, port = sys.argv[1], int(sys.argv[2])
    relay = Relay(port, (host, port))
    threading.Event().wait()
