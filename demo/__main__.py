"""The tour through two running services: ``python dev.py demo`` starts them and then this."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from demo.rest import Service, TourFailed
from demo.tour import Tour, say


def main() -> int:
    """Walk, and then tell what happens until Ctrl+C; answers the exit status."""
    parser = argparse.ArgumentParser(prog="demo", description="A tour through both services.")
    parser.add_argument("--requestor", required=True, metavar="URL")
    parser.add_argument("--processor", required=True, metavar="URL")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where the services keep their data")
    parser.add_argument("--once", action="store_true", help="end after the walk")
    options = parser.parse_args()
    try:
        tour = Tour(Service(options.requestor), Service(options.processor), options.data)
        say("")
        tour.walk()
        if not options.once:
            say("What happens now is told here. Ctrl+C ends the demo.\n")
            tour.follow()
    except TourFailed as failure:
        print(f"demo: {failure}; the services' logs are in {options.data}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
