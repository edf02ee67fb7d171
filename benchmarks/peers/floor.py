"""The ``floor`` contender: what Flask, Waitress and marshmallow leave to everybody who builds on them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from benchmarks.calls import Address, Call
from benchmarks.contender import Contender, follow_up_body, initiate_body, python, wait_until_healthy
from benchmarks.processes import Process, free_port


class Floor(Contender):
    """Reads each body and answers; keeps nothing, sends nothing."""

    name: ClassVar[str] = "floor"
    description: ClassVar[str] = "the bare Flask + Waitress + marshmallow call: the limit of our parts"

    def start(self, folder: Path) -> None:
        self.front = Address("127.0.0.1", free_port())
        command = python("-m", "benchmarks.peers.floor_app")
        self.processes = {"requestor": Process("requestor", command, folder, {"PEER_PORT": str(self.front.port)})}
        self.processes["requestor"].launch()
        wait_until_healthy(self, "requestor")

    def initiate(self, order: str) -> Call:
        return Call("/api/v1/orders/initiate", initiate_body(order))

    def follow_up(self, order: str, note: str) -> Call:
        return Call("/api/v1/orders/followup", follow_up_body(order, note))

    def tracking(self, order: str) -> Call:
        return Call(f"/api/v1/orders/tracking/{order}")
