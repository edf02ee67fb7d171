"""A client of the requestor's REST interface: typed answers, safe retries, errors as exceptions.

    from requestor_client import RequestorClient

    with RequestorClient("http://127.0.0.1:8004") as requestor:
        requestor.initiate("TEST001", "sess_test_001", "email", audience=["seller1"])
        requestor.follow_up("TEST001", "Any update?", audience=["seller1"])
        print(requestor.order("TEST001").stream.state)

It needs `requests` and nothing else of this project; the folder can be copied into another one.
"""

from requestor_client.answers import (
    Closed,
    Delivery,
    Event,
    FollowedUp,
    Initiated,
    Note,
    Order,
    OrderPage,
    OrderSummary,
    Readiness,
    Stream,
    TrackedNote,
    TrackedOrder,
    TrackingStatus,
)
from requestor_client.client import RequestorClient
from requestor_client.errors import (
    ActionRefused,
    CallFailed,
    Conflict,
    FieldFault,
    FollowUpConflict,
    Forbidden,
    InputRefused,
    NoAnswer,
    NotFound,
    OrderLive,
    Problem,
    StoreFull,
    TooMany,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)

__all__ = [
    "ActionRefused",
    "CallFailed",
    "Closed",
    "Conflict",
    "Delivery",
    "Event",
    "FieldFault",
    "FollowUpConflict",
    "FollowedUp",
    "Forbidden",
    "Initiated",
    "InputRefused",
    "NoAnswer",
    "NotFound",
    "Note",
    "Order",
    "OrderLive",
    "OrderPage",
    "OrderSummary",
    "Problem",
    "Readiness",
    "RequestorClient",
    "StoreFull",
    "Stream",
    "TooMany",
    "TrackedNote",
    "TrackedOrder",
    "TrackingStatus",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
]
