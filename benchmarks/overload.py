"""``python -m benchmarks.overload``: what goes through when three times as much comes in as the service can do.

In each round the peak is measured, with clients that wait for their answers, and then three times as many initiates a
second are sent, whether or not those before them are answered. The peak is measured once more at the end: what goes
through is compared with the mean of both, since a machine's speed may move within a round.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from rich.console import Console

from benchmarks.load import LoadProcess
from benchmarks.open_loop import OpenOutcome, OpenPlan
from benchmarks.ours import Ours
from benchmarks.runner import Runner
from benchmarks.sizes import USUAL
from benchmarks.summary import percentile
from benchmarks.workloads import Bench
from service_kit.web.shedding import CALM_S

#: Of the peak, what must go through; and what /livez may take, in milliseconds at p99.
GOAL, LIVEZ_GOAL_MS = 0.8, 50.0
OVERLOAD = 3.0
#: Clients of the peak: as many as are waited for at once at the most.
PEAK_CLIENTS = 64
CONNECTIONS = 800
#: After so long the service has forgotten the load, in seconds.
AT_REST_S = CALM_S + 1


def measure_peak(bench: Bench, seconds: float) -> float:
    """Initiates per second when each client waits for its answer."""
    calls = [bench.contender.initiate(order) for order in bench.new_orders(int(8_000 * seconds))]
    return bench.send(calls, PEAK_CLIENTS, seconds=seconds).per_s


def overload(bench: Bench, load: LoadProcess, per_s: float, seconds: float) -> OpenOutcome:
    """Send initiates at this pace."""
    address = bench.contender.front
    orders = bench.new_orders(int(per_s * seconds))
    requests = [bench.contender.initiate(order).encode(address) for order in orders]
    return load.run_open(OpenPlan(address, requests, per_s, CONNECTIONS))


def judge(outcome: OpenOutcome, peak: float, say: Callable[[str], object]) -> bool:
    """Show one round, and say whether it reached the goals."""
    goodput = len(outcome.took_s) / outcome.seconds
    refused = outcome.statuses[429] + outcome.statuses[503]
    others = outcome.statuses.total() - refused - len(outcome.took_s)
    livez_ms = percentile(outcome.livez_s, 99) * 1000
    offered = outcome.statuses.total() + outcome.unsent + outcome.lost
    say(
        f"peak {peak:,.0f}/s; offered {offered / outcome.seconds:,.0f}/s; went through {goodput:,.0f}/s "
        f"({goodput / peak:.0%} of the peak, p99 {percentile(outcome.took_s, 99) * 1000:.0f} ms); "
        f"refused {refused / outcome.seconds:,.0f}/s, {outcome.with_retry_after / max(1, refused):.1%} with "
        f"Retry-After; other answers {others}, lost {outcome.lost}, no connection free {outcome.unsent}"
    )
    say(
        f"  /livez {len(outcome.livez_s)} calls, p50 {percentile(outcome.livez_s, 50) * 1000:.1f} ms, p99 "
        f"{livez_ms:.1f} ms, {dict(outcome.livez_statuses)}; generator {outcome.generator_cpu_s / outcome.seconds:.0%} "
        f"of a core, at most {outcome.latest_s * 1000:.0f} ms late"
    )
    return (
        goodput >= GOAL * peak
        and livez_ms < LIVEZ_GOAL_MS
        and outcome.with_retry_after == refused > 0
        and not others
        and not outcome.lost
        and set(outcome.livez_statuses) == {200}
    )


def main() -> int:
    """Run some rounds; the exit status says whether each reached the goals."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    reached = True
    with LoadProcess() as load:
        runner = Runner(load, USUAL, on_begin=lambda _: None)
        for _ in range(options.rounds):
            with runner.warm(Ours(), 256) as bench:
                before = measure_peak(bench, options.seconds / 2)
                outcome = overload(bench, load, OVERLOAD * before, options.seconds)
                time.sleep(AT_REST_S)
                after = measure_peak(bench, options.seconds / 2)
                reached &= judge(outcome, (before + after) / 2, console.print)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
