"""What the operator pages of both services are answered alike."""

from __future__ import annotations

from typing import Any

from service_kit.samples import Sampler
from service_kit.web.guard import optional_principal, sees_whole


def sampled(sampler: Sampler) -> dict[str, Any]:
    """A part of the state: until when there are samples. They are of the first tenant, and for it alone."""
    return {"sampled_at_ms": sampler.newest_ms if sees_whole(optional_principal()) else 0}


def samples(sampler: Sampler, after_ms: int) -> dict[str, Any]:
    """What is sent beside the state: the samples since the last one that is known."""
    if not sees_whole(optional_principal()):
        return {"samples": {"at_ms": (), "series": {}}}
    found = sampler.since(after_ms)
    return {"samples": {"at_ms": found.at_ms, "series": found.series}}
