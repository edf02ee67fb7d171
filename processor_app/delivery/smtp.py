"""Hands mail over to a mail server, one connection for each mail, within one deadline.

SMTP has no exactly-once (RFC 1047): the server takes a mail when it has seen the final dot, and its answer may be lost.
Before the dot a failure means "not taken", behind it "nobody knows".
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from contextlib import closing, suppress

from processor_app.delivery.channel import AttemptResult, Verdict
from processor_app.delivery.deadline import (
    Bounds,
    BoundTlsContext,
    Resolver,
    connect,
    resolve,
    system_resolver,
    verifying_context,
)
from processor_app.delivery.mail_message import Mail
from processor_app.delivery.smtp_url import Security, SmtpServer

_MAX_RECEIVED = 65_536
#: How long a server that has the mail may take to say goodbye.
_QUIT_S = 1.0
#: Answers about our login, which the operator can put right: no seller's mail is given up for them.
_LOGIN_CODES = frozenset({530, 534, 535, 538})
_MAX_ANSWER = 200

_UNCERTAIN = (
    "The connection was lost after the mail was handed over and before the server had answered: it may have been sent "
    "or not. A repetition has the same Message-ID."
)

_DOT_AT_LINE_START = re.compile(rb"^\.", re.MULTILINE)
_UNPRINTABLE = re.compile(r"[^ -~]+")


class _Refused(Exception):
    """The server has refused a step."""

    def __init__(self, code: int, answer: bytes | str, *, is_about_the_mail: bool) -> None:
        super().__init__(code)
        self.code = code
        self.answer = _shown(answer)
        self.is_about_the_mail = is_about_the_mail and code not in _LOGIN_CODES


class _AnswerLost(Exception):
    """What became of the mail behind the final dot is not known."""


class SmtpCarrier:
    """Hands mail to one server. Calls share no connection, so any number of them may run at once."""

    def __init__(self, server: SmtpServer, own_name: str, *, resolver: Resolver = system_resolver) -> None:
        self._server = server
        self._own_name = own_name
        self._resolver = resolver
        self._tls_context = verifying_context()
        if server.security == Security.OPTIONAL:
            self._tls_context.check_hostname = False
            self._tls_context.verify_mode = ssl.CERT_NONE

    def hand_over(self, mail: Mail) -> AttemptResult:
        """Try once."""
        bounds = Bounds(self._server.timeout_s, _MAX_RECEIVED)
        try:
            with closing(_Dialogue(self._server, self._own_name)) as dialogue:
                addresses = resolve(self._server.host, self._server.port, bounds, self._resolver)
                dialogue.open(connect(addresses, bounds), self._tls_context)
                answer = dialogue.hand_over(mail)
                bounds.shorten(_QUIT_S)
                with suppress(OSError, smtplib.SMTPException):
                    dialogue.quit()
        except _Refused as refusal:
            return _result_of(refusal)
        except _AnswerLost:
            return AttemptResult(Verdict.UNCERTAIN, _UNCERTAIN)
        except (OSError, smtplib.SMTPException) as failure:
            return AttemptResult(Verdict.RETRY, _sentence(failure))
        return AttemptResult(Verdict.DELIVERED, f"The mail server took it: {_shown(answer)}")


class _Dialogue(smtplib.SMTP):
    """One dialogue over a connection that is made elsewhere. Raises `_Refused`, `_AnswerLost`, and smtplib's own."""

    def __init__(self, server: SmtpServer, own_name: str) -> None:
        super().__init__(local_hostname=own_name)
        self._server = server
        # What starttls checks the certificate against.
        self._host = server.host

    def open(self, connection: socket.socket, tls_context: BoundTlsContext) -> None:
        """Greet, protect the connection as the settings say, and log in."""
        # From here on, close() closes it, whatever happens.
        self.sock = connection
        if self._server.security == Security.TLS:
            self.sock = tls_context.wrap_socket(connection, server_hostname=self._server.host)
        self._expect(220, self.getreply(), is_about_the_mail=False)
        try:
            self.ehlo_or_helo_if_needed()
            if self._wants_starttls():
                self.starttls(context=tls_context)
                self.ehlo_or_helo_if_needed()
            if self._server.user:
                self.login(self._server.user, self._server.password)
        except smtplib.SMTPResponseException as refusal:
            raise _Refused(refusal.smtp_code, refusal.smtp_error, is_about_the_mail=False) from None

    def _wants_starttls(self) -> bool:
        security = self._server.security
        return security == Security.REQUIRED or (security == Security.OPTIONAL and self.has_extn("starttls"))

    def hand_over(self, mail: Mail) -> bytes:
        """Bring the mail behind its final dot; answers what the server says then."""
        self._expect(250, self.mail(mail.sender))
        self._expect(250, self.rcpt(mail.receiver))
        self._expect(354, self.docmd("DATA"))
        # When not all of this went out, the dot at its end did not.
        self.send(_DOT_AT_LINE_START.sub(b"..", mail.content) + b".\r\n")
        try:
            code, answer = self.getreply()
        except (OSError, smtplib.SMTPException):
            raise _AnswerLost from None
        if code < 400 and code != 250:
            raise _AnswerLost
        self._expect(250, (code, answer))
        return answer

    @staticmethod
    def _expect(code: int, reply: tuple[int, bytes], *, is_about_the_mail: bool = True) -> None:
        # 251 and 252 take a receiver, too.
        if reply[0] // 10 * 10 != code // 10 * 10:
            raise _Refused(*reply, is_about_the_mail=is_about_the_mail)


def _result_of(refusal: _Refused) -> AttemptResult:
    if refusal.code in _LOGIN_CODES:
        # The answer to a login may repeat parts of it.
        return AttemptResult(Verdict.RETRY, f"The mail server refused our login ({refusal.code}); check the settings.")
    verdict = Verdict.FAILED if refusal.is_about_the_mail and 500 <= refusal.code < 600 else Verdict.RETRY
    return AttemptResult(verdict, f"The mail server refused: {refusal.code} {refusal.answer}")


def _shown(answer: bytes | str) -> str:
    """What the server said, on one line and not too long."""
    answer = answer if isinstance(answer, str) else answer.decode("ascii", "replace")
    return _UNPRINTABLE.sub(" ", answer)[:_MAX_ANSWER].strip()


def _sentence(failure: OSError | smtplib.SMTPException) -> str:
    match failure:
        case ssl.SSLCertVerificationError():
            return f"The mail server's certificate is not valid: {failure.verify_message}."
        case smtplib.SMTPNotSupportedError():
            return "The mail server does not offer the STARTTLS or the login that the settings ask for."
        case TimeoutError():
            return "The mail server did not answer in time."
        case ConnectionRefusedError():
            return "The mail server refused the connection."
    return "The mail server cannot be reached, or ended the dialogue before it had the mail."
