from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from processor_app.bootstrap import build_processor
from processor_app.delivery.smtp_url import parse_smtp_url
from processor_app.exposure import warnings as processor_warnings
from processor_app.settings import ProcessorSettings
from requestor_app.bootstrap import build_requestor
from requestor_app.exposure import warnings as requestor_warnings
from requestor_app.settings import RequestorSettings
from service_kit.errors import StartRefused
from service_kit.exposure import is_loopback, is_loopback_target

PROXIES = (ip_network("192.0.2.7/32"),)
TLS = {"tls_cert": "a.pem", "tls_key": "a.key", "tls_ca": "ca.pem"}
KEYS_AND_PROXY = {"require_keys": True, "trusted_proxies": PROXIES}


def requestor(folder: Path, **settings: Any) -> None:
    build_requestor(RequestorSettings(store=f"sqlite:///{folder / 'r.db'}", **settings))


def processor(folder: Path, **settings: Any) -> None:
    build_processor(ProcessorSettings(store=f"sqlite:///{folder / 'p.db'}", **settings))


@pytest.mark.parametrize(
    ("build", "settings", "said"),
    [
        (requestor, {"host": "0.0.0.0"}, ("REQUESTOR_HOST=0.0.0.0", "REQUESTOR_REQUIRE_KEYS=on", "keys create")),
        (requestor, {"host": "::"}, ("REQUESTOR_TRUSTED_PROXIES", "REQUESTOR_HOST=127.0.0.1", "docs/how-to/tls.md")),
        (requestor, {"host": "192.0.2.1", "require_keys": True}, ("REQUESTOR_TRUSTED_PROXIES",)),
        (requestor, {"host": "192.0.2.1", "trusted_proxies": PROXIES}, ("REQUESTOR_REQUIRE_KEYS=on",)),
        (requestor, {"host": "orders.example", "trusted_proxies": PROXIES}, ("REQUESTOR_REQUIRE_KEYS=on",)),
        (requestor, {"processors": ("127.0.0.1:50052", "192.0.2.9:50052")}, ("192.0.2.9:50052", "dev.py certs")),
        (requestor, {"processors": ("dns:///processors.example:50052",)}, ("REQUESTOR_TLS_CERT", "REQUESTOR_TLS_CA")),
        (requestor, {"tls_cert": "a.pem"}, ("REQUESTOR_TLS_KEY and REQUESTOR_TLS_CA", "dev.py certs")),
        (processor, {"host": "0.0.0.0"}, ("PROCESSOR_REQUIRE_KEYS=on", "PROCESSOR_TLS_CERT", "PROCESSOR_TLS_PEERS")),
        (processor, {"host": "0.0.0.0", **KEYS_AND_PROXY}, ("PROCESSOR_HOST=0.0.0.0", "PROCESSOR_TLS_CERT")),
        (processor, {"grpc_host": "0.0.0.0"}, ("PROCESSOR_GRPC_HOST=0.0.0.0", "PROCESSOR_TLS_KEY", "dev.py certs")),
        (processor, {"host": "0.0.0.0", "grpc_host": "127.0.0.1"}, ("PROCESSOR_REQUIRE_KEYS=on",)),
        (processor, {"grpc_host": "0.0.0.0", **TLS}, ("PROCESSOR_TLS_PEERS must name",)),
        (processor, {"tls_peers": ("requestor",)}, ("PROCESSOR_TLS_PEERS means nothing without",)),
    ],
)
def test_what_others_reach_without_protection_does_not_start(
    build: Any, settings: dict[str, Any], said: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(StartRefused) as refused:
        build(tmp_path, **settings)
    for words in said:
        assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("build", "settings"),
    [
        (requestor, {}),
        (requestor, {"host": "localhost"}),
        (requestor, {"host": "0.0.0.0", **KEYS_AND_PROXY}),
        (requestor, {"processors": ("localhost:50052", "[::1]:50052", "unix:/run/processor.sock")}),
        (requestor, {"processors": ("192.0.2.9:50052",), **TLS}),
        (processor, {}),
        (processor, {"host": "0.0.0.0", "tls_peers": ("requestor",), **TLS, **KEYS_AND_PROXY}),
        (processor, {"host": "0.0.0.0", "grpc_host": "127.0.0.1", **KEYS_AND_PROXY}),
        (processor, {"grpc_host": "0.0.0.0", "tls_peers": ("requestor",), **TLS}),
    ],
)
def test_what_is_protected_or_on_loopback_may_start(build: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    build(tmp_path, **settings)


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1")],
        *[(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "localhost.example", "machine")],
    ],
)
def test_loopback_is_what_is_so_for_certain(host: str, is_ours: bool) -> None:
    assert is_loopback(host) is is_ours


@pytest.mark.parametrize(
    ("target", "is_ours"),
    [
        ("127.0.0.1:50052", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]:50052", True),
        ("dns:///localhost:50052", True),
        ("dns://192.0.2.53/127.0.0.1:50052", True),
        ("ipv4:127.0.0.1:50052,127.0.0.2:50052", True),
        ("ipv6:[::1]:50052", True),
        ("unix:///run/x.sock", True),
        ("ipv4:127.0.0.1:50052,192.0.2.9:50052", False),
        ("dns:///orders.example:50052", False),
        ("dns:orders.example:50052", False),
        ("xds:///localhost:50052", False),
        ("localhost.example:50052", False),
        ("2001:db8::1", False),
        ("vsock:2:50052", False),
    ],
)
def test_a_target_is_loopback_when_all_of_it_is(target: str, is_ours: bool) -> None:
    assert is_loopback_target(target) is is_ours


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trusted_proxies": PROXIES}, "whoever the proxy lets through may do everything"),
        ({"store": "redis://user:geheim@10.0.0.5:6379/0"}, "REQUESTOR_STORE leads to a Redis on another machine"),
        ({"store": "redis+sentinel://127.0.0.1,10.0.0.6/orders"}, "REQUESTOR_STORE leads to a Redis"),
    ],
)
def test_what_is_open_on_purpose_is_told(settings: dict[str, Any], words: str) -> None:
    (warning,) = requestor_warnings(RequestorSettings(**settings))
    assert words in warning
    assert "geheim" not in warning


@pytest.mark.parametrize(
    ("mail_server", "warned"),
    [
        ("smtp://mail.example.com", True),
        ("smtp://mail.example.com?starttls=off", True),
        ("smtp://user:secret@mail.example.com", False),
        ("smtps://mail.example.com", False),
        ("smtp://localhost", False),
    ],
)
def test_mail_in_clear_to_another_machine_is_told(mail_server: str, warned: bool) -> None:
    settings = ProcessorSettings(smtp_url=parse_smtp_url(mail_server))
    assert ["in clear" in warning for warning in processor_warnings(settings)] == [True] * warned


@pytest.mark.parametrize("store", ["sqlite:///data/x.db", "redis://127.0.0.1:6379", "rediss://10.0.0.5:6379"])
def test_a_store_that_is_near_or_has_tls_is_no_matter(store: str) -> None:
    assert list(requestor_warnings(RequestorSettings(store=store, require_keys=True))) == []
