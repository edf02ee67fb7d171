"""The limit of our parts as they come: the same bodies, the same schemas, Flask on Waitress, and nothing behind."""

from __future__ import annotations

import logging
import os
from typing import Any

from flask import Flask, request
from waitress import serve  # type: ignore[import-untyped]

from requestor_app.api.schemas import FollowUpSchema, InitiateSchema

INITIATE = InitiateSchema()
FOLLOW_UP = FollowUpSchema()

app = Flask(__name__)


@app.get("/api/v1/health")
def health() -> dict[str, str]:
    """Say that the process serves."""
    return {"status": "healthy"}


@app.post("/api/v1/orders/initiate")
def initiate() -> dict[str, Any]:
    """Read an order and forget it."""
    data = INITIATE.load(request.get_json())
    return {
        "success": True,
        "message": "Order initiated successfully",
        "order_req_id": data["order_req_id"],
        "session_id": data["session_id"],
    }


@app.post("/api/v1/orders/followup")
def follow_up() -> dict[str, Any]:
    """Read a follow-up and forget it."""
    data = FOLLOW_UP.load(request.get_json())
    return {
        "success": True,
        "message": "Follow-up processed successfully",
        "order_req_id": data["order_req_id"],
        "follow_up_id": data["follow_up_id"],
    }


@app.get("/api/v1/orders/tracking/<order_id>")
def tracked_order(order_id: str) -> dict[str, Any]:
    """The tracking of an order that nobody knows."""
    return {
        "order_req_id": order_id,
        "session": "sess_bench_001",
        "notes_count": 0,
        "is_stream_active": True,
        "notes": [],
        "state": "live",
        "stream_state": "open",
    }


if __name__ == "__main__":
    # As many threads and connections as our services have; Waitress would warn of each request that waits.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    serve(app, host="127.0.0.1", port=int(os.environ["PEER_PORT"]), threads=16, connection_limit=1000)
