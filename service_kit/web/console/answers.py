"""What the operator pages of both services are answered alike."""

from __future__ import annotations

from typing import Any

from service_kit.samples import Sampler


def sampled(sampler: Sampler) -> dict[str, Any]:
    """A part of the state: until when there are samples."""
    return {"sampled_at_ms": sampler.newest_ms}


def samples(sampler: Sampler, after_ms: int) -> dict[str, Any]:
    """What is sent beside the state: the samples since the last one that is known."""
    found = sampler.since(after_ms)
    return {"samples": {"at_ms": found.at_ms, "series": found.series}}
