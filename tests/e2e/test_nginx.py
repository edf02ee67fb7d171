"""Both services behind nginx, with the very configuration of docs/how-to/nginx.md."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from requests.adapters import HTTPAdapter

from service_kit.access.keys import make_key
from service_kit.access.model import Scope
from service_kit.certificates import CertificateFolder, Usage, issue
from service_kit.storage.opening import open_access_store
from tests.e2e.conftest import ROOT, Service, Services, eventually, free_port, order_body
from tests.system import require_program

ORDERS, SELLERS = "orders.example.com", "sellers.example.com"
TIMEOUT_S = 10
PAGE = ROOT / "docs" / "how-to" / "nginx.md"


class Front(NamedTuple):
    """nginx, and the two services behind it."""

    port: int
    session: requests.Session
    requestor: Service
    processor: Service
    log: Path
    tokens: dict[str, str]

    def call(
        self, method: str, host: str, path: str, headers: dict[str, str] | None = None, **other: Any
    ) -> requests.Response:
        """Call one of the two hosts over TLS, whose certificate is checked, with a key."""
        usual = {"Host": f"{host}:{self.port}", "Authorization": f"Bearer {self.tokens[host]}"}
        url, all_headers = f"https://{host}:{self.port}{path}", {**usual, **(headers or {})}
        return self.session.request(method, url, headers=all_headers, timeout=TIMEOUT_S, **other)


class ToLoopback(HTTPAdapter):
    """Connects to nginx of this test whatever the host in the URL, and checks the certificate for that host."""

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        host, port = re.fullmatch(r"https://([^:/]+):(\d+).*", request.url).groups()  # type: ignore[union-attr]
        return self.poolmanager.connection_from_host(
            "127.0.0.1",
            int(port),
            "https",
            pool_kwargs={
                "server_hostname": host,
                "assert_hostname": host,
                "ca_certs": verify,
                "cert_reqs": "CERT_REQUIRED",
            },
        )


def configuration(folder: Path, port: int, requestor: Service, processor: Service) -> str:
    """The page's configuration, with the ports and certificates of this test, in what nginx needs around it."""
    (block,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for theirs, ours in (
        (r"listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (r"127\.0\.0\.1:8004", f"127.0.0.1:{requestor.settings['REQUESTOR_PORT']}"),
        (r"127\.0\.0\.1:8005", f"127.0.0.1:{processor.settings['PROCESSOR_PORT']}"),
        (r"/etc/letsencrypt/live/[a-z.]+/fullchain\.pem", str(folder / "web.pem")),
        (r"/etc/letsencrypt/live/[a-z.]+/privkey\.pem", str(folder / "web.key")),
    ):
        block, count = re.subn(theirs, ours, block)
        assert count == 2 or "800" in theirs, f"the page no longer says {theirs}"
    assert "8004" not in block
    assert "8005" not in block
    temporary = "\n".join(
        f"{kind}_temp_path {folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    return (
        f"daemon off; {user} pid {folder / 'nginx.pid'}; error_log {folder / 'error.log'};\n"
        f"events {{}}\nhttp {{ access_log {folder / 'access.log'}; {temporary}\n{block}\n}}\n"
    )


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    nginx = require_program("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    certificates = CertificateFolder(folder)
    authority, _ = certificates.authority()
    certificates.write("web", issue(authority, [ORDERS, SELLERS], Usage.SERVER))
    services, port = Services(folder), free_port()
    behind = {"REQUIRE_KEYS": "on", "TRUSTED_PROXIES": "127.0.0.1/32", "LOG_LEVEL": "DEBUG"}
    processor, requestor = services.processor(), services.requestor()
    for service in (processor, requestor):
        service.settings.update({f"{service.prefix}_{name}": value for name, value in behind.items()})
    file = folder / "nginx.conf"
    file.write_text(configuration(folder, port, requestor, processor), encoding="utf-8")
    with subprocess.Popen([nginx, "-p", str(folder), "-c", str(file)]) as process, requests.Session() as session:
        try:
            tokens = {}
            for host, service in ((SELLERS, processor), (ORDERS, requestor)):
                tokens[host] = key_for(service)
                service.start()
            session.trust_env = False
            session.verify = str(certificates.certificate_file("ca"))
            session.mount("https://", ToLoopback())
            eventually(lambda: is_listening(port), what="nginx")
            yield Front(port, session, requestor, processor, folder / "access.log", tokens)
        finally:
            process.terminate()
            services.kill_all()


def key_for(service: Service) -> str:
    """The token of a new key that may do everything."""
    store = open_access_store(f"sqlite:///{service.store}", base_folder=ROOT, prefix=service.name)
    store.start()
    new = make_key(Scope)
    store.add(new.key)
    store.stop(5)
    return new.token


def is_listening(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("host", [ORDERS, SELLERS])
def test_health_is_answered_over_tls(front: Front, host: str) -> None:
    answer = front.call("GET", host, "/api/v1/health")
    assert answer.json() == {"status": "healthy"}
    assert "Strict-Transport-Security" in answer.headers
    title = front.call("GET", host, "/openapi.json").json()["info"]["title"]
    assert title == ("Order requestor" if host == ORDERS else "Order processor")


@pytest.mark.parametrize("host", [ORDERS, SELLERS])
def test_without_a_key_nothing_is_told(front: Front, host: str) -> None:
    assert front.call("GET", host, "/api/v1/orders", headers={"Authorization": ""}).status_code == 401
    assert front.call("GET", host, "/api/v1/orders").status_code == 200


def test_an_order_comes_through(front: Front) -> None:
    answer = front.call("POST", ORDERS, "/api/v1/orders/initiate", json=order_body("A1"))
    assert answer.status_code == 200, answer.text
    state = lambda: front.call("GET", ORDERS, "/api/v1/orders/A1").json()["stream"]["state"]  # noqa: E731
    eventually(lambda: state() == "open", what="the stream")
    assert front.call("GET", SELLERS, "/api/v1/orders/A1").status_code == 200


@pytest.mark.parametrize("host", [ORDERS, SELLERS])
@pytest.mark.parametrize("file", ["console.js", "console.css", "icon.svg"])
def test_the_operator_pages_files_come_through(front: Front, host: str, file: str) -> None:
    answer = front.call("GET", host, f"/console/static/{file}")
    assert answer.status_code == 200
    assert "Content-Security-Policy" in answer.headers


def test_a_reply_page_comes_through_and_is_not_logged(front: Front) -> None:
    answer = front.call("GET", SELLERS, "/reply/no-such-token", headers={"Accept": "text/html"})
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.status_code == 400
    front.call("GET", SELLERS, "/api/v1/health")
    text = eventually(lambda: front.log.read_text(encoding="utf-8"), what="nginx's log")
    assert "/api/v1/health" in text
    assert "no-such-token" not in text


def test_a_body_that_is_too_large_goes_no_further(front: Front) -> None:
    answer = front.call("POST", ORDERS, "/api/v1/orders/initiate", data=b"x" * 70_000)
    assert answer.status_code == 413


@pytest.mark.parametrize("host", [ORDERS, SELLERS])
def test_what_a_client_says_of_its_address_is_not_believed(front: Front, host: str) -> None:
    service = front.requestor if host == ORDERS else front.processor
    said = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-IP": "203.0.113.9"}
    answer = front.call("GET", host, "/api/v1/health", headers=said)
    (line,) = [line for line in service.log.splitlines() if answer.headers["X-Request-ID"] in line]
    assert "client=127.0.0.1" in line
    # A service believes its proxy, so the test would see an address that nginx lets through.
    answer = requests.get(f"{service.url}/livez", headers=said, timeout=TIMEOUT_S)
    (line,) = [line for line in service.log.splitlines() if answer.headers["X-Request-ID"] in line]
    assert "client=203.0.113.9" in line


@pytest.mark.parametrize("host", [ORDERS, SELLERS])
@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
def test_what_is_for_the_machine_alone_is_not_published(front: Front, host: str, path: str) -> None:
    assert front.call("GET", host, path).status_code == 404
