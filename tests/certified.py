"""Certificates for the two services in a folder of a test, good ones and bad ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from service_kit.certificates import CertificateFolder, Certified, Usage, issue, make_authority


class WireFolder:
    """The files of both ends, as their settings name them: each end has its own list of authorities."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = CertificateFolder(folder)
        self.authority, _ = self.files.authority()
        self.renew("processor", "localhost", "127.0.0.1")
        self.renew("requestor", "requestor", usage=Usage.CLIENT)
        self.trust("processor", self.authority)
        self.trust("requestor", self.authority)

    def renew(self, end: str, *names: str, usage: Usage = Usage.SERVER, **other: Any) -> None:
        """Give an end another certificate of the authority."""
        self.files.write(end, issue(self.authority, names, usage, **other))

    def trust(self, end: str, *authorities: Certified) -> None:
        """Say whose certificates an end trusts."""
        file = self.folder / f"{end}-ca.pem"
        beside = file.with_suffix(".new")
        beside.write_bytes(b"".join(authority.certificate_pem for authority in authorities))
        beside.replace(file)

    def settings(self, end: str) -> dict[str, str]:
        """The names of the settings, without the prefix, and their values."""
        return {
            "tls_cert": str(self.files.certificate_file(end)),
            "tls_key": str(self.files.key_file(end)),
            "tls_ca": str(self.folder / f"{end}-ca.pem"),
        }

    def environment(self, end: str) -> dict[str, str]:
        """The same as environment variables, with the list of peers."""
        peers = {"PROCESSOR_TLS_PEERS": "requestor"} if end == "processor" else {}
        return {f"{end.upper()}_{name.upper()}": value for name, value in self.settings(end).items()} | peers

    def client(self, *names: str) -> Certified:
        """A certificate for a client."""
        return issue(self.authority, names, Usage.CLIENT)


def bad_certificates(authority: Certified) -> dict[str, Certified]:
    """Certificates that bear the right name and must be refused for another reason."""
    now, name = datetime.now(UTC), ["requestor"]
    return {
        "self-signed": self_signed("requestor"),
        "other authority": issue(make_authority(), name, Usage.CLIENT),
        "expired": issue(authority, name, Usage.CLIENT, days=1, begins_at=now - timedelta(days=2)),
        "not yet valid": issue(authority, name, Usage.CLIENT, days=1, begins_at=now + timedelta(days=1)),
        "wrong usage": issue(authority, name, Usage.SERVER),
    }


def self_signed(name: str) -> Certified:
    """A certificate that nobody but itself vouches for."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return _signed(subject, subject, key, key)


def nameless(authority: Certified, common_name: str) -> Certified:
    """A certificate without any host name, only with a common name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return _signed(subject, authority.certificate.subject, key, authority.key)


def _signed(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> Certified:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
    return Certified(builder.sign(signer, SHA256()), key)


def channel_with(
    certified: Certified | None, authority: Certified, port: int, options: Sequence[tuple[str, Any]] = ()
) -> grpc.Channel:
    """A channel to a server of this machine that shows a certificate, or none."""
    key, chain = (certified.key_pem, certified.certificate_pem) if certified else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.certificate_pem, key, chain)
    own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0), *options]
    return grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=own)
