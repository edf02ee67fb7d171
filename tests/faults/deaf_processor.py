"""A processor whose gRPC server can be made deaf: at SIGUSR1 the one thread dies that takes what comes in.

The port stays open, connections are accepted and nothing is answered any more: what a caller sees is a silent peer.
"""

from __future__ import annotations

import ctypes
import runpy
import signal
import threading
from pathlib import Path

from service_kit.lifecycle import ask_to_stop
from service_kit.rpc.probe import LoopbackProbe

SCRIPT = Path(__file__).resolve().parents[2] / "wsgi_processor.py"
#: The probe in a hurry: as shipped it gives up after half a minute.
PROBE = {"every_s": 0.5, "timeout_s": 0.5, "give_up": ask_to_stop}

#: How gRPC names the thread of its server, after the function that it runs.
_SERVING = "(_serve)"


def end_serving_thread(*_: object) -> None:
    """Raise SystemExit in gRPC's serving thread; it comes when the thread runs Python code, within a second."""
    (thread,) = [thread for thread in threading.enumerate() if thread.name.endswith(_SERVING)]
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, end_serving_thread)
    LoopbackProbe.__init__.__kwdefaults__ = PROBE
    runpy.run_path(str(SCRIPT), run_name="__main__")
