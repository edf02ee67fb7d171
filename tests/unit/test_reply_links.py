from __future__ import annotations

import stat
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from processor_app.replies.links import (
    LinkExpired,
    LinkInvalid,
    ReplyLink,
    ReplyLinks,
    SecretFile,
    base_url,
    secret_text,
)
from service_kit.change import Ref
from service_kit.errors import StartRefused
from service_kit.rules import ID_PATTERN

NOW_MS = 1_795_435_200_123
LINK = ReplyLink(Ref("default", "A:1"), 2, "seller-1", "note.1", "d_1")
SECRET = "s" * 32


def links(secret: str = SECRET, lifetime_s: float = 100.0) -> ReplyLinks:
    return ReplyLinks("https://orders.example/base", lambda: secret, lifetime_s)


def token_of(link: ReplyLink, *, secret: str = SECRET, lifetime_s: float = 100.0) -> str:
    url = links(secret, lifetime_s).url_of(link, NOW_MS)
    assert url.startswith("https://orders.example/base/reply/")
    return url.rpartition("/")[2]


def test_a_link_says_what_it_is_for() -> None:
    for link in (LINK, replace(LINK, follow_up_id=""), replace(LINK, ref=Ref("t", "x" * 128), seller_id="y" * 128)):
        assert links().read(token_of(link), NOW_MS) == link


def test_the_same_link_has_the_same_address() -> None:
    assert links().url_of(LINK, NOW_MS) == links().url_of(LINK, NOW_MS)


def test_a_token_needs_no_quoting_in_a_url() -> None:
    assert set(token_of(LINK)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_a_link_ends_when_its_time_is_over() -> None:
    token = token_of(LINK)
    assert links().read(token, NOW_MS + 99_000) == LINK
    with pytest.raises(LinkExpired):
        links().read(token, NOW_MS + 100_001)
    # What it says itself holds, whatever the setting is by now.
    assert links(lifetime_s=1).read(token, NOW_MS + 99_000) == LINK


def test_no_changed_token_is_read() -> None:
    token = token_of(LINK)
    for place in range(len(token)):
        for other in ("A", "B", ""):
            changed = token[:place] + other + token[place + 1 :]
            if changed != token:
                with pytest.raises(LinkInvalid):
                    links().read(changed, NOW_MS)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "ü", "\x00", "x" * 100_000, "W10.AAAA", "%2e"])
def test_nothing_else_is_read(token: str) -> None:
    with pytest.raises(LinkInvalid):
        links().read(token, NOW_MS)


def test_another_secret_reads_nothing() -> None:
    with pytest.raises(LinkInvalid):
        links("t" * 32).read(token_of(LINK), NOW_MS)


def test_a_token_of_another_form_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("processor_app.replies.links._SALT", "reply-link-0")
        token = token_of(LINK)
    with pytest.raises(LinkInvalid):
        links().read(token, NOW_MS)


def test_an_answer_has_one_id_for_each_seller_run_and_note() -> None:
    others = [
        replace(LINK, ref=Ref("default", "A")),
        replace(LINK, ref=Ref("t", "A:1")),
        replace(LINK, run=3),
        replace(LINK, seller_id="seller-2"),
        replace(LINK, follow_up_id=""),
    ]
    assert len({link.answer_id for link in [LINK, *others]}) == 6
    assert replace(LINK, delivery_id="d_2").answer_id == LINK.answer_id
    assert LINK.message_id(1) != LINK.message_id(2)
    for reply_id in (LINK.answer_id, LINK.message_id(5)):
        assert ID_PATTERN.fullmatch(reply_id)


# ---- the secret


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    first = SecretFile(tmp_path / "data" / "link-secret")
    first.start()
    assert first.read() == SecretFile(tmp_path / "data" / "link-secret").read()
    assert len(first.read()) == 64
    assert first.read() != SecretFile(tmp_path / "other").read()


def test_threads_that_come_at_once_get_the_same_secret(tmp_path: Path) -> None:
    file = SecretFile(tmp_path / "link-secret")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(file.read())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (len(found), len(set(found))) == (20, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")
def test_the_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    SecretFile(tmp_path / "link-secret").start()
    assert stat.S_IMODE((tmp_path / "link-secret").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["link-secret"]


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64])
def test_a_file_without_a_secret_refuses_the_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "link-secret").write_bytes(content)
    with pytest.raises(StartRefused, match="link-secret cannot be used"):
        SecretFile(tmp_path / "link-secret").start()


def test_a_folder_that_cannot_be_written_refuses_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StartRefused, match="cannot be used"):
        SecretFile(tmp_path / "file" / "link-secret").start()


# ---- settings


def test_a_base_url_ends_without_a_slash() -> None:
    assert base_url().read("https://orders.example/base/") == "https://orders.example/base"
    for wrong in ("orders.example", "https://a/?b", "https://a/#b", "https://u:p@a/", "ftp://a/", "https:///x"):
        with pytest.raises(ValueError, match=r".*"):
            base_url().read(wrong)


def test_a_secret_must_be_long() -> None:
    assert secret_text().read("x" * 32) == "x" * 32
    with pytest.raises(ValueError, match=r".*"):
        secret_text().read("x" * 31)
