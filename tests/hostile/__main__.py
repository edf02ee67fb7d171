"""The long forms: ``python -m tests.hostile messages`` and ``python -m tests.hostile calls``, on both services."""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.conftest import Services
from tests.hostile import calls_run, messages_run

LONG = 100_000


def main() -> None:
    """Run one attack as long as it is asked for, and print what came of it; fails when a service does not stand it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attack", choices=["messages", "calls"])
    parser.add_argument("--count", type=int, default=LONG, help=f"how many messages, or calls; by default {LONG}")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        services = Services(Path(folder))
        try:
            with_keys = "on" if wanted.attack == "calls" else "off"
            processor = services.processor(PROCESSOR_REQUIRE_KEYS=with_keys)
            requestor = services.requestor(REQUESTOR_REQUIRE_KEYS=with_keys)
            processor.start()
            requestor.start()
            if wanted.attack == "messages":
                print(messages_run.run(processor, requestor, wanted.count, seed=wanted.seed, warm_up=2_000))
            else:
                with ThreadPoolExecutor() as side_by_side:
                    halves = [
                        side_by_side.submit(calls_run.run, service, wanted.count // 2, seed=wanted.seed)
                        for service in (requestor, processor)
                    ]
                    for half in halves:
                        print(half.result())
        finally:
            services.kill_all()


if __name__ == "__main__":
    main()
