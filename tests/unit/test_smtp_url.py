from __future__ import annotations

import pytest

from processor_app.delivery.smtp_url import Security, SmtpServer, parse_smtp_url, smtp_url
from processor_app.settings import PREFIX, ProcessorSettings
from service_kit.errors import StartRefused
from service_kit.settings import load_settings


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://localhost", SmtpServer("localhost", 25, Security.OPTIONAL)),
        ("smtp://localhost:2525/?starttls=off", SmtpServer("localhost", 2525, Security.OFF)),
        ("smtp://mail.example?starttls=required", SmtpServer("mail.example", 25, Security.REQUIRED)),
        ("smtp://u:p@mail.example:587", SmtpServer("mail.example", 587, Security.REQUIRED, "u", "p")),
        ("smtp://u:p@mail.example?starttls=off", SmtpServer("mail.example", 25, Security.OFF, "u", "p")),
        ("smtps://u%40x:p%3Aq%2F@mail.example", SmtpServer("mail.example", 465, Security.TLS, "u@x", "p:q/")),
        ("smtp://[::1]:26?timeout_s=1.5", SmtpServer("::1", 26, Security.OPTIONAL, timeout_s=1.5)),
    ],
)
def test_a_url_names_a_mail_server(url: str, server: SmtpServer) -> None:
    assert parse_smtp_url(url) == server


@pytest.mark.parametrize(
    "url",
    [
        *("", "mail.example", "http://mail.example", "smtp://", "smtp://:25", "smtp://mail.example/path"),
        *("smtp://mail.example:0", "smtp://mail.example:99999", "smtp://mail.example:x", "smtp://ma il.example"),
        *("smtp://mail.example?starttls=maybe", "smtp://mail.example?starttls=tls", "smtp://mail.example?other=1"),
        *("smtp://mail.example?starttls", "smtp://mail.example?timeout_s=0", "smtp://mail.example?timeout_s=1000"),
        *("smtps://mail.example?starttls=required", "smtp://user@mail.example", "smtp://:password@mail.example"),
        *("smtp://u:p@mail.example?starttls=optional", "smtp://u:p%0d%0a@mail.example", "smtp://%C3%BC:p@mail.example"),
        *("smtp://mail.example#part",),
    ],
)
def test_what_is_no_mail_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_smtp_url(url)


def test_a_password_is_never_shown() -> None:
    settings = load_settings(ProcessorSettings, PREFIX, {"PROCESSOR_SMTP_URL": "smtp://u:s3cret@mail.example"})
    assert settings.smtp_url is not None
    assert settings.smtp_url.password == "s3cret"
    assert "s3cret" not in repr(settings) + repr(settings.smtp_url)
    with pytest.raises(StartRefused) as refusal:
        load_settings(ProcessorSettings, PREFIX, {"PROCESSOR_SMTP_URL": "smtp://u:s3cret@mail.example?x=1"})
    assert "s3cret" not in str(refusal.value)
    assert smtp_url().rule in str(refusal.value)
