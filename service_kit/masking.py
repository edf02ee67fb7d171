"""Masks what looks like a secret in a text that people will read, wherever it stands."""

from __future__ import annotations

import re

_MASK = "***"
# One pattern for each kind, behind a text that is cheap to look for: nearly all log lines have none of them.
_KINDS = (
    # User and password of a URL; the user alone may be a token, too.
    ("://", re.compile(r"(://)[^\s/?#@\"'<>]+@"), rf"\1{_MASK}@"),
    # The secret of a webhook.
    ("whsec_", re.compile(r"whsec_[A-Za-z0-9+/=_-]+"), f"whsec_{_MASK}"),
    # The signature of a webhook, and the token of a reply link: whoever has it can answer.
    ("v1,", re.compile(r"\bv1,[A-Za-z0-9+/]{20,}=*"), f"v1,{_MASK}"),
    ("/reply/", re.compile(r"(/reply/)[^\s\"'<>?#&,;)\]}\\]+"), rf"\1{_MASK}"),
    # What an Authorization header says.
    ("earer ", re.compile(r"\b([Bb]earer )[A-Za-z0-9._~+/=-]{6,}"), rf"\1{_MASK}"),
    ("asic ", re.compile(r"\b([Bb]asic )[A-Za-z0-9+/]{8,}=*"), rf"\1{_MASK}"),
    ("uthorization", re.compile(r"([Aa]uthorization[\"']*[:=]\s*[\"']*)(?!\*)[^\s\"',;]+"), rf"\1{_MASK}"),
)


def masked(text: str) -> str:
    """The text without its secrets."""
    for sign, pattern, replacement in _KINDS:
        if sign in text:
            text = pattern.sub(replacement, text)
    return text
