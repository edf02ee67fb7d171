"""All contenders by their names, in the order in which reports show them."""

from __future__ import annotations

from benchmarks.contender import Contender
from benchmarks.ours import SQLITE, Ours, OursRedis
from benchmarks.peers.asgi import Asgi, AsgiDurable
from benchmarks.peers.dbos import Dbos
from benchmarks.peers.floor import Floor
from benchmarks.peers.restate import Restate
from benchmarks.peers.threads import Threads


def all_contenders(store: str = SQLITE) -> dict[str, Contender]:
    """Every contender; ``store`` is the URL of ours."""
    contenders = [Ours(store), OursRedis(), Floor(), Asgi(), AsgiDurable(), Threads(), Restate(), Dbos()]
    return {contender.name: contender for contender in contenders}
