"""Values: small objects that nobody changes once they are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a dataclass with slots that the type checker keeps anybody from changing.

    At run time it is not frozen: a frozen one takes three times as long to make, and every order makes a dozen.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
