"""The application of the ``dbos`` peer: FastAPI, and a DBOS workflow that runs for as long as its order is live."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

from dbos import DBOS, SetWorkflowID
from fastapi import FastAPI

from benchmarks.peers import logs
from benchmarks.peers.bodies import FollowUp, Initiate

#: As good as for ever.
_WAIT_S = 30 * 86_400.0

log = logs.configure()
#: The orders whose workflow runs in this process, with the notes that it has received.
received: Counter[str] = Counter()


@DBOS.workflow()
async def live_order(body: dict[str, Any]) -> None:
    """Receive the order's notes."""
    order_id = body["order_req_id"]
    received[order_id] = 0
    log.info("Request type: workflow  order_req_id=%s", order_id)
    while await DBOS.recv_async("notes", timeout_seconds=_WAIT_S) is not None:
        received[order_id] += 1


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Launch DBOS, which takes up the workflows of an earlier process."""
    path = os.environ["PEER_LOG"]
    with closing(sqlite3.connect(path)) as connection:
        # DBOS leaves the file as it is. With a log in front of it, twice to three times as much can be written.
        connection.execute("PRAGMA journal_mode = WAL")
    DBOS(
        config={
            "name": "order-peer",
            "system_database_url": f"sqlite:///{path}",
            "log_level": "WARNING",
        }
    )
    DBOS.launch()
    yield
    DBOS.destroy()


app = FastAPI(lifespan=lifespan)


@app.get("/api/v1/health")
async def health() -> dict[str, str]:
    """Say that the process serves."""
    return {"status": "healthy"}


@app.post("/api/v1/orders/initiate")
async def initiate(body: Initiate) -> dict[str, Any]:
    """Start the order's workflow, or find it; it is in the database before the answer."""
    with SetWorkflowID(body.order_req_id):
        await DBOS.start_workflow_async(live_order, body.model_dump())
    return {
        "success": True,
        "message": "Order initiated successfully",
        "order_req_id": body.order_req_id,
        "session_id": body.session_id,
    }


@app.post("/api/v1/orders/followup")
async def follow_up(body: FollowUp) -> dict[str, Any]:
    """Send a note to the workflow, once under its id."""
    follow_up_id = body.follow_up_id or uuid.uuid4().hex
    await DBOS.send_async(body.order_req_id, body.model_dump(), topic="notes", idempotency_key=follow_up_id)
    return {
        "success": True,
        "message": "Follow-up processed successfully",
        "order_req_id": body.order_req_id,
        "follow_up_id": follow_up_id,
    }


@app.get("/api/v1/orders/tracking/{order_id}")
async def tracked_order(order_id: str) -> dict[str, Any]:
    """How the order's workflow stands, as the database says it."""
    status = await DBOS.get_workflow_status_async(order_id)
    return {
        "order_req_id": order_id,
        "is_stream_active": status is not None and status.status == "PENDING",
        "notes_count": received[order_id],
    }


@app.get("/running")
async def running() -> dict[str, int]:
    """The running workflows and the notes of each."""
    return received
