"""A certificate authority of one's own for the wire between the services: ``python dev.py certs``.

For those who have none. The authority and all certificates lie in one folder; what stands on other machines is copied
there. A second run renews the certificates and leaves the authority as it is.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
LEAF_DAYS = 365
#: Certificates begin a little before now, for machines whose clocks are behind.
_CLOCK_SLACK = timedelta(minutes=5)
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_AUTHORITY = "ca"
_PROCESSOR = "processor"
_LOCAL = ("localhost", "127.0.0.1", "::1")


class CertificateFault(Exception):
    """Something about the files or the names is not as it must be; the text says what to do."""


class Usage(Enum):
    """What a certificate is good for."""

    SERVER = ExtendedKeyUsageOID.SERVER_AUTH
    CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as a file holds it."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key as a file holds it, not encrypted: a service must read it without a person."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_authority(name: str = "Order communicator CA", days: float = AUTHORITY_DAYS) -> Certified:
    """A new authority, which signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = _subject(name), datetime.now(UTC)
    builder = (
        _begin(subject, subject, key.public_key(), now - _CLOCK_SLACK, now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return Certified(builder.sign(key, SHA256()), key)


def issue(
    authority: Certified,
    names: Sequence[str],
    usage: Usage,
    *,
    days: float = LEAF_DAYS,
    begins_at: datetime | None = None,
) -> Certified:
    """A certificate for these host names and addresses; it ends with its authority at the latest."""
    key = ec.generate_private_key(ec.SECP256R1())
    begins_at = begins_at or datetime.now(UTC) - _CLOCK_SLACK
    ends_at = min(begins_at + timedelta(days=days), authority.certificate.not_valid_after_utc)
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _begin(_subject(names[0]), authority.certificate.subject, key.public_key(), begins_at, ends_at)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage.value]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(signer, critical=False)
    )
    return Certified(builder.sign(authority.key, SHA256()), key)


def expiry_of(certificate_pem: bytes) -> datetime:
    """When the first certificate of a file ends. Raises `ValueError` when there is none."""
    return x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins_at: datetime, ends_at: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins_at)
        .not_valid_after(ends_at)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


# ---- files


class CertificateFolder:
    """The authority and its certificates as files: ``NAME.pem`` and ``NAME.key``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def certificate_file(self, name: str) -> Path:
        """Where the certificate of a name lies."""
        return self._folder / f"{name}.pem"

    def key_file(self, name: str) -> Path:
        """Where the key of a name lies."""
        return self._folder / f"{name}.key"

    def authority(self) -> tuple[Certified, bool]:
        """The folder's authority, and whether it was made just now. Raises `CertificateFault`; overwrites nothing."""
        files = self.certificate_file(_AUTHORITY), self.key_file(_AUTHORITY)
        there = [file for file in files if file.exists()]
        if not there:
            made = make_authority()
            self.write(_AUTHORITY, made)
            return made, True
        if len(there) == 1:
            raise CertificateFault(
                f"{there[0]} is there without its other half. Bring that back, or name another folder with --out."
            )
        return _read_authority(*files), False

    def write(self, name: str, certified: Certified) -> None:
        """Put both files in place; each is there as a whole or not at all."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(self.key_file(name), certified.key_pem, mode=0o600)
        _replace(self.certificate_file(name), certified.certificate_pem, mode=0o644)


def _read_authority(certificate_file: Path, key_file: Path) -> Certified:
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except (ValueError, TypeError):
        raise CertificateFault(f"{certificate_file} and {key_file} are no authority of this command.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CertificateFault(f"{key_file} is not the key of {certificate_file}.")
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        raise CertificateFault(f"{certificate_file} has expired. Name another folder with --out for a new authority.")
    return Certified(certificate, key)


def _replace(file: Path, content: bytes, *, mode: int) -> None:
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with os.fdopen(number, "wb") as out:
            out.write(content)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


# ---- the command


def main(words: Sequence[str] | None = None) -> int:
    """Make or renew the certificates and say what to set; answers the exit status."""
    options = _parse(words)
    folder = CertificateFolder(Path(options.out).absolute())
    try:
        lines = list(_make(folder, options.requestor, options.processor, options.days))
    except (CertificateFault, OSError) as fault:
        sys.stderr.write(f"certs: {fault}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py certs", description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--out", metavar="FOLDER", default="data/certs", help="instead of %(default)s")
    parser.add_argument("--requestor", metavar="NAME", default="requestor", help="instead of %(default)s")
    parser.add_argument(
        "--processor",
        metavar="NAME",
        nargs="+",
        default=list(_LOCAL),
        help=f"host names and addresses under which requestors reach it, instead of {' '.join(_LOCAL)}",
    )
    parser.add_argument("--days", type=int, default=LEAF_DAYS, help="how long they are good, instead of %(default)s")
    return parser.parse_args(words)


def _make(folder: CertificateFolder, requestor: str, processor: Sequence[str], days: int) -> Iterator[str]:
    if not _NAME.fullmatch(requestor) or requestor.lower() in {_AUTHORITY, _PROCESSOR}:
        raise CertificateFault(f"The requestor needs a name of letters, digits, dots and hyphens, not {requestor!r}.")
    wrong = [name for name in processor if not _NAME.fullmatch(name) and not _is_address(name)]
    if wrong:
        raise CertificateFault(f"These are no names or addresses of hosts: {' '.join(map(repr, wrong))}.")
    if not 1 <= days <= AUTHORITY_DAYS:
        raise CertificateFault(f"--days must be from 1 to {AUTHORITY_DAYS}.")
    authority, is_new = folder.authority()
    authority_file = folder.certificate_file(_AUTHORITY)
    ends = authority.certificate.not_valid_after_utc
    yield f"{'made' if is_new else 'kept'} the authority {authority_file}, good until {ends:%Y-%m-%d}"
    for file, names, usage in (
        (_PROCESSOR, processor, Usage.SERVER),
        (requestor, [requestor], Usage.CLIENT),
    ):
        certified = issue(authority, names, usage, days=days)
        verb = "renewed" if folder.certificate_file(file).exists() else "made"
        folder.write(file, certified)
        ends = certified.certificate.not_valid_after_utc
        yield f"{verb} {folder.certificate_file(file)} for {', '.join(names)}, good until {ends:%Y-%m-%d}"
    yield "Set for the processor:"
    yield from _settings(folder, "PROCESSOR", _PROCESSOR)
    yield f"  PROCESSOR_TLS_PEERS={requestor}"
    yield "Set for the requestor:"
    yield from _settings(folder, "REQUESTOR", requestor)
    yield f"Keep {folder.key_file(_AUTHORITY)} away from both machines: whoever has it can make certificates."


def _settings(folder: CertificateFolder, prefix: str, name: str) -> Iterator[str]:
    yield f"  {prefix}_TLS_CERT={folder.certificate_file(name)}"
    yield f"  {prefix}_TLS_KEY={folder.key_file(name)}"
    yield f"  {prefix}_TLS_CA={folder.certificate_file(_AUTHORITY)}"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
