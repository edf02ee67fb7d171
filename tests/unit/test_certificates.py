from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography import x509

from service_kit.certificates import main
from service_kit.tls_files import TlsFault, tls_files


def made(folder: Path, *words: str) -> int:
    return main(["--out", str(folder), *words])


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_set_is_made_and_its_settings_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "certs"
    assert made(folder, "--processor", "processor.internal", "10.1.0.5", "--requestor", "shop") == 0
    said = capsys.readouterr().out
    settings = dict(line.strip().split("=", 1) for line in said.splitlines() if line.startswith("  "))
    assert settings["PROCESSOR_TLS_PEERS"] == "shop"
    for prefix in ("PROCESSOR", "REQUESTOR"):
        named = [settings[f"{prefix}_TLS_{what}"] for what in ("CERT", "KEY", "CA")]
        files = tls_files(prefix, *named, base_folder=tmp_path)
        assert files is not None
        assert files.read().key
    names = x509.load_pem_x509_certificate((folder / "processor.pem").read_bytes()).extensions
    alternatives = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternatives.get_values_for_type(x509.DNSName) == ["processor.internal"]
    assert [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)] == ["10.1.0.5"]
    if os.name != "nt":
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.glob("*.key")}
        assert modes == dict.fromkeys(("ca.key", "processor.key", "shop.key"), 0o600)


def test_a_second_run_renews_all_but_the_authority(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path)
    before = contents(tmp_path)
    assert made(tmp_path, "--days", "7") == 0
    after = contents(tmp_path)
    assert after.keys() == before.keys()
    assert {name for name in before if before[name] == after[name]} == {"ca.pem", "ca.key"}
    assert "kept the authority" in capsys.readouterr().out


@pytest.mark.parametrize("gone", ["ca.pem", "ca.key"])
def test_half_an_authority_is_never_overwritten(gone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path)
    (tmp_path / gone).unlink()
    before = contents(tmp_path)
    assert made(tmp_path) == 1
    assert contents(tmp_path) == before
    assert "without its other half" in capsys.readouterr().err


def test_a_foreign_authority_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path)
    (tmp_path / "ca.key").write_bytes((tmp_path / "processor.key").read_bytes())
    assert made(tmp_path) == 1
    assert "is not the key of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("--requestor", "../requestor"),
        ("--requestor", "ca"),
        ("--requestor", "processor"),
        ("--processor", "https://processor.internal"),
        ("--days", "0"),
    ],
)
def test_what_makes_no_sense_makes_no_files(words: tuple[str, ...], tmp_path: Path) -> None:
    assert made(tmp_path / "certs", *words) == 1
    assert not (tmp_path / "certs").exists()


def test_a_key_with_a_password_is_refused_and_not_asked_for(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "processor.key").write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGjMF8GCSqGSIb3DQEFDTBS\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    names = [str(tmp_path / name) for name in ("processor.pem", "processor.key", "ca.pem")]
    files = tls_files("PROCESSOR", *names, base_folder=tmp_path)
    assert files is not None
    with pytest.raises(TlsFault, match="without a password"):
        files.read()
