"""Masks what looks like a secret in a text that people will read, wherever it stands."""

from __future__ import annotations

import re

_MASK = "***"
# User and password of a URL; the user alone may be a token, too.
_URL_LOGIN = re.compile(r"(://)[^\s/?#@\"'<>]+@")
# The token of a reply link: whoever has it can answer in the seller's name.
_REPLY_LINK = re.compile(r"(/reply/)[^\s\"'<>?#&,;)\]}\\]+")
# An API key: what names it may be read.
_API_KEY = re.compile(r"(\boc_[a-z0-9]{6,16}_)[A-Za-z0-9]{6,}")
_WEBHOOK_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=_-]+")
# What an Authorization header says, with its name and without it.
_BEARER = re.compile(r"\b([Bb]earer )[A-Za-z0-9._~+/=-]{6,}")
_AUTHORIZATION = re.compile(
    r"([Aa]uthorization[\"'\\]*[:=]\s*[\"'\\]*(?:(?:Basic|Bearer|Digest|Token) )?+)(?!\*)[^\s\"'\\,;]+"
)


def masked(text: str) -> str:
    """The text without its secrets.

    Nearly all lines have none; so each pattern stands behind a sign that is cheap to look for.
    """
    if "/" in text:
        text = _REPLY_LINK.sub(rf"\1{_MASK}", _URL_LOGIN.sub(rf"\1{_MASK}@", text))
    if "whsec_" in text:
        text = _WEBHOOK_SECRET.sub(f"whsec_{_MASK}", text)
    if "oc_" in text:
        text = _API_KEY.sub(rf"\1{_MASK}", text)
    if "earer " in text:
        text = _BEARER.sub(rf"\1{_MASK}", text)
    if "uthorization" in text:
        text = _AUTHORIZATION.sub(rf"\1{_MASK}", text)
    return text
