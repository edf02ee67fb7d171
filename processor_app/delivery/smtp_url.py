"""How the mail server is named in the settings.

    smtp://user:password@mail.example.com:587?starttls=required&timeout_s=20
    smtps://user:password@mail.example.com            TLS from the first byte, port 465
    smtp://localhost                                  port 25, TLS when the server offers it

``starttls`` is ``required`` (the default with a login), ``optional`` (the default without one) or ``off``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qsl, unquote, urlsplit

from service_kit.settings import Parser, host_name, seconds

#: The whole attempt: look-up, connection and dialogue.
DEFAULT_TIMEOUT_S = 20.0

_DEFAULT_PORTS = {"smtp": 25, "smtps": 465}
_TIMEOUT = seconds(0.1, 300)


class Security(StrEnum):
    """How a connection to the mail server is protected."""

    #: TLS from the first byte.
    TLS = "tls"
    #: Begins in clear and must change to TLS; the certificate is checked.
    REQUIRED = "required"
    #: Changes to TLS when the server offers it. Nobody checks the certificate: it is still better than none.
    OPTIONAL = "optional"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed over."""

    host: str
    port: int
    security: Security
    user: str = ""
    password: str = field(default="", repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S


def smtp_url() -> Parser[SmtpServer | None]:
    """Reads the URL of a mail server."""
    rule = (
        "must be smtp://[user:password@]host[:port] or smtps://…, with starttls=required, optional or off (a login "
        "takes no optional) and timeout_s as its only options"
    )
    return Parser(parse_smtp_url, rule, "smtp://user:password@mail.example.com:587?starttls=required")


def parse_smtp_url(raw: str) -> SmtpServer:
    """The mail server that a URL names. Raises `ValueError`."""
    parts = urlsplit(raw)
    if parts.scheme not in _DEFAULT_PORTS or parts.path not in ("", "/") or parts.fragment or not parts.hostname:
        raise ValueError("not an address of a mail server")
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)) if parts.query else {}
    user, password = _credential(parts.username), _credential(parts.password)
    timeout_s = _TIMEOUT.read(options.pop("timeout_s", str(DEFAULT_TIMEOUT_S)))
    security = _security(parts.scheme, options.pop("starttls", None), has_login=bool(user))
    if options or bool(user) != bool(password) or parts.port == 0:
        raise ValueError("an unknown option, half a login or no port")
    host = host_name().read(parts.hostname)
    return SmtpServer(host, parts.port or _DEFAULT_PORTS[parts.scheme], security, user, password, timeout_s)


def _security(scheme: str, wish: str | None, *, has_login: bool) -> Security:
    if scheme == "smtps":
        if wish is not None:
            raise ValueError("smtps is TLS already")
        return Security.TLS
    security = Security(wish) if wish else (Security.REQUIRED if has_login else Security.OPTIONAL)
    # Whoever sits on the wire can hide the server's offer, and would get the password.
    if security == Security.TLS or (has_login and security == Security.OPTIONAL):
        raise ValueError("not a way to protect a login")
    return security


def _credential(quoted: str | None) -> str:
    text = unquote(quoted or "")
    # Nothing else can be said in the dialogue of a login (RFC 4954 without SASLprep).
    if not all(" " <= character <= "~" for character in text):
        raise ValueError("not printable ASCII")
    return text
