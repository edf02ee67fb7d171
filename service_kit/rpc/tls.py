"""gRPC over TLS: both ends show a certificate and check the other's. gRPC speaks TLS 1.2 and 1.3, nothing older."""

from __future__ import annotations

import threading

import grpc

from service_kit.logs import get_logger
from service_kit.rpc.options import ChannelOptions
from service_kit.tls_files import Identity, TlsFault, TlsFiles, expires_at_s

_log = get_logger(__name__)


class ReloadedIdentity:
    """A server's identity; new connections get the files' newest state that fits together."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        #: Guards what is known of the files: gRPC asks from its own threads.
        self._lock = threading.Lock()
        self._signature = files.signature()
        self._identity = files.read_at_start()
        self.expires_at_s = expires_at_s(self._identity)

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that ask for the files' state at each handshake, and demand a certificate of the other end."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._identity),
            self._fetch,  # type: ignore[arg-type]  # None is documented: nothing has changed
            require_client_authentication=True,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """The new state, or None when there is none. gRPC calls it while a connection waits: it never fails."""
        with self._lock:
            signature = self._files.signature()
            if signature == self._signature:
                return None
            self._signature = signature
            try:
                identity = self._files.read()
                expiry_s = expires_at_s(identity)
            except (TlsFault, ValueError) as fault:
                _log.warning(f"Kept the old certificates: {fault}", action="tls.reload_refused")
                return None
            if identity == self._identity:
                return None
            self._identity, self.expires_at_s = identity, expiry_s
        _log.info("Took new certificates into use", action="tls.reloaded")
        return _configuration(identity)


def open_channel(target: str, options: ChannelOptions, tls: TlsFiles | None) -> grpc.Channel:
    """A channel to a server, with the files' present state. Raises `TlsFault` when they cannot be used."""
    if tls is None:
        return grpc.insecure_channel(target, options=options)
    own = tls.read()
    credentials = grpc.ssl_channel_credentials(own.authorities, own.key, own.certificate)
    return grpc.secure_channel(target, credentials, options=options)


#: What gRPC says of a handshake that failed, and what that means for the calling end.
_HANDSHAKE_FAILURES = (
    ("unable to get local issuer", "its certificate is of another authority than {prefix}_CA"),
    ("self signed", "its certificate is of another authority than {prefix}_CA"),
    ("self-signed", "its certificate is of another authority than {prefix}_CA"),
    ("has expired", "its certificate has expired"),
    ("not yet valid", "its certificate is not yet valid"),
    ("certificate purpose", "its certificate is not for a server"),
    ("hostname verification", "its certificate is for another name"),
    ("is not in peer certificate", "its certificate is for another name"),
    ("wrong_version_number", "it does not speak TLS"),
    ("certificate_verify_failed", "its certificate cannot be trusted"),
    ("socket closed", "it cut the connection, maybe because of this end's certificate"),
    ("handshake", "the TLS handshake failed"),
)


def failure_of(error: grpc.RpcError, tls: TlsFiles | None) -> str:
    """Why a call failed, for people: gRPC's word for it, and what is wrong with a certificate if that is the reason."""
    # What a call raises carries a status and details, though the declared class has none.
    code = getattr(error, "code", lambda: None)()
    if not isinstance(code, grpc.StatusCode):
        return type(error).__name__
    meaning = None
    if tls is not None and code is grpc.StatusCode.PERMISSION_DENIED:
        meaning = "its list of peers does not have this end's name"
    elif tls is not None and code is grpc.StatusCode.UNAVAILABLE:
        details = str(getattr(error, "details", str)()).lower()
        # A connection that was up has shaken hands; what ended it is another thing.
        signs = _HANDSHAKE_FAILURES if "failed to connect" in details else ()
        meaning = next((meaning for sign, meaning in signs if sign in details), None)
    return code.name if meaning is None or tls is None else f"{code.name}: {meaning.format(prefix=tls.prefix)}"


def _configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key, identity.certificate)], root_certificates=identity.authorities
    )
