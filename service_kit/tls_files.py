"""The PEM files of one end of the wire: its certificate, its key, and the authorities that it trusts."""

from __future__ import annotations

import ssl
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from service_kit.errors import StartRefused

_MAKE_THEM = "`python dev.py certs` makes files that fit."


class TlsFault(Exception):
    """The files cannot be used; the text names the setting and says why."""


class Identity(NamedTuple):
    """What an end shows, and whose certificates it trusts."""

    certificate: bytes
    key: bytes
    authorities: bytes


class TlsFiles(NamedTuple):
    """Where the files are. ``prefix`` is what the settings that name them begin with, such as ``PROCESSOR_TLS``."""

    cert: Path
    key: Path
    ca: Path
    prefix: str

    def read(self) -> Identity:
        """What the files hold together. Raises `TlsFault` when one cannot be read or they do not fit together."""
        identity = self._read_once()
        self._check()
        # What was checked must be what was read, even when somebody replaces the files at this very moment.
        if self._read_once() != identity:
            raise TlsFault(f"the files of {self.prefix}_CERT, _KEY and _CA change just now")
        return identity

    def read_at_start(self) -> Identity:
        """The same; raises `StartRefused`, since a start is the time to hear of a mistake in the settings."""
        try:
            return self.read()
        except TlsFault as fault:
            raise StartRefused(f"TLS cannot be used: {fault}. {_MAKE_THEM}") from None

    def signature(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Changes when one of the files does."""
        return tuple(_signature_of(file) for file in (self.cert, self.key, self.ca))

    def _read_once(self) -> Identity:
        return Identity(
            _bytes_of(self.cert, f"{self.prefix}_CERT"),
            _bytes_of(self.key, f"{self.prefix}_KEY"),
            _bytes_of(self.ca, f"{self.prefix}_CA"),
        )

    def _check(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # A key with a password must fail, not ask for it at the terminal.
            context.load_cert_chain(self.cert, self.key, password="")
        except (OSError, ValueError) as error:
            if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
                raise TlsFault(f"{self.prefix}_KEY is not the key of {self.prefix}_CERT") from None
            raise TlsFault(
                f"{self.prefix}_CERT and {self.prefix}_KEY must be PEM files of a certificate and its key, "
                "without a password"
            ) from None
        try:
            context.load_verify_locations(self.ca)
        except OSError:
            raise TlsFault(f"{self.prefix}_CA must be a PEM file of certificates") from None


def tls_files(prefix: str, cert: str, key: str, ca: str, *, base_folder: Path) -> TlsFiles | None:
    """The files that the settings name, or None. Relative paths stand under ``base_folder``. Raises `StartRefused`."""
    named = {f"{prefix}_TLS_CERT": cert, f"{prefix}_TLS_KEY": key, f"{prefix}_TLS_CA": ca}
    missing = [setting for setting, path in named.items() if not path]
    if len(missing) == len(named):
        return None
    if missing:
        raise StartRefused(f"TLS needs all of {', '.join(named)}; set {' and '.join(missing)} too. {_MAKE_THEM}")
    return TlsFiles(base_folder / cert, base_folder / key, base_folder / ca, f"{prefix}_TLS")


def expires_at_s(identity: Identity) -> float:
    """When the certificate ends, in seconds since 1970. Raises `ValueError` when it is none."""
    # Only who uses TLS pays for it.
    expires_at: float = import_module("service_kit.certificates").expiry_of(identity.certificate).timestamp()
    return expires_at


def _bytes_of(file: Path, setting: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TlsFault(f"{setting} ({file}) cannot be read: {error.strerror or type(error).__name__}") from None


def _signature_of(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
