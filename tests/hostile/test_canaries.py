"""Secrets that are planted wherever a service meets one come out nowhere: in no log, answer, figure, page or mail."""

from __future__ import annotations

import base64
import http.server
import re
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import requests

from processor_app.bootstrap import create_app as create_processor_app
from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc
from requestor_app.bootstrap import create_app as create_requestor_app
from tests.e2e.conftest import ROOT, Service, Services, eventually, free_port
from tests.hostile.raw_cases import CLOSED, RawCase
from tests.hostile.test_raw_http import exchange

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

#: Each is a word of its own; where it is planted.
PLACES = (
    *("smtp password", "link secret", "redis password of the requestor", "redis password of the processor"),
    *(
        "otlp login of the requestor",
        "otlp login of the processor",
        "processor target",
        "webhook login",
        "webhook query",
    ),
    *("bearer token", "basic login", "cookie", "proxy login", "x-api-key", "idempotency key", "request id", "query"),
    *(
        "unknown field",
        "malformed body",
        "reply token",
        "grpc metadata",
        "receiver's answer",
        "malformed header",
        "setting",
    ),
)
CANARIES = {place: f"Canary{number:02}Xq7wZ" + "k3Vt" * 8 for number, place in enumerate(PLACES)}


def secret(place: str) -> str:
    return CANARIES[place]


@dataclass
class Seen:
    """Everything that has come out, by where."""

    texts: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, text: str | bytes) -> None:
        said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        self.texts[where] = self.texts.get(where, "") + said

    def answer(self, answer: requests.Response) -> requests.Response:
        self.add(f"answer to {answer.request.method} {answer.url[:60]}", f"{answer.headers}\n{answer.text}")
        return answer

    def leaks(self) -> list[str]:
        """Which secret stands where, as it is or in Base64."""
        found = []
        for where, text in self.texts.items():
            for place, canary in CANARIES.items():
                # The place in a group of three decides how Base64 writes it.
                coded = [base64.b64encode(b"x" * shift + canary.encode())[8:28].decode() for shift in range(3)]
                if any(form in text for form in (canary, *coded)):
                    found.append(f"{place}: {where}")
        return found


class _Mail(socketserver.StreamRequestHandler):
    """A mail server that repeats what it gets, refuses the first login, and takes every mail afterwards."""

    logins = 0
    mails: list[bytes] = []  # noqa: RUF012 - one for all connections

    def _line(self) -> bytes:
        try:
            return self.rfile.readline()
        except ConnectionError:
            return b""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self._line():
            word = line[:4].upper()
            if word == b"EHLO":
                self.wfile.write(b"250-here\r\n250 AUTH PLAIN\r\n")
            elif word == b"AUTH":
                _Mail.logins += 1
                said = line.split()[-1]
                clear = base64.b64decode(said).replace(b"\0", b" ")
                self.wfile.write(b"235 ok\r\n" if _Mail.logins > 1 else b"535 no such login: " + said + clear + b"\r\n")
            elif word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                content = b""
                while (part := self.rfile.readline()) not in (b".\r\n", b""):
                    content += part
                _Mail.mails.append(content)
                self.wfile.write(b"250 taken\r\n")
            else:
                self.wfile.write(b"250 ok\r\n")


class _Hook(http.server.BaseHTTPRequestHandler):
    """A receiver that fails, and repeats what it knows."""

    calls = 0

    def do_POST(self) -> None:
        _Hook.calls += 1
        answer = secret("receiver's answer")
        said = f"{answer} {self.path}".encode()
        self.send_response(500, answer)
        self.send_header("Content-Length", str(len(said)))
        self.send_header("X-Debug", self.path)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def sinks() -> Iterator[tuple[int, int]]:
    """The ports of the mail server and the receiver."""
    servers = [socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) for handler in (_Mail, _Hook)]
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield servers[0].server_address[1], servers[1].server_address[1]
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = Services(tmp_path)
    yield made
    made.kill_all()


def test_no_secret_comes_out_anywhere(services: Services, sinks: tuple[int, int]) -> None:
    mail_port, hook_port = sinks
    seen = Seen()
    processor = services.processor(
        PROCESSOR_LOG_LEVEL="DEBUG",
        PROCESSOR_SMTP_URL=f"smtp://orders:{secret('smtp password')}@127.0.0.1:{mail_port}?starttls=off",
        PROCESSOR_LINK_SECRET=secret("link secret"),
        PROCESSOR_OTLP_ENDPOINT=f"http://u:{secret('otlp login of the processor')}@127.0.0.1:{free_port()}/v1/traces",
        PROCESSOR_WEBHOOK_ALLOW_NETWORKS="127.0.0.0/8",
        PROCESSOR_RETRY_SCHEDULE_S="0.1,0.2,0.5,0.5",
    )
    requestor = services.requestor(
        REQUESTOR_LOG_LEVEL="DEBUG",
        REQUESTOR_OTLP_ENDPOINT=f"http://u:{secret('otlp login of the requestor')}@127.0.0.1:{free_port()}/v1/traces",
    )
    processor.start()
    requestor.start()
    whsec = register_sellers(processor, hook_port, seen)
    token = use_key(requestor, seen)
    drive_orders(requestor, seen)
    for service in (processor, requestor):
        send_bad_requests(service, seen)
    call_grpc(services.grpc_port, seen)
    eventually(lambda: _Mail.mails and _Hook.calls >= 2, timeout_s=30, what="mail and webhooks")
    time.sleep(1)
    for service in (processor, requestor):
        look_around(service, seen)
    for number, mail in enumerate(_Mail.mails):
        seen.add(f"mail {number}", mail)
    for service in (processor, requestor):
        for process in (psutil.Process(service.process.pid), *psutil.Process(service.process.pid).children()):
            seen.add(f"command line of the {service.name}", " ".join(process.cmdline()))
    refuse_to_start(services, seen)
    for service in (processor, requestor):
        run_commands(service, seen)
        service.stop(timeout_s=30)
        seen.add(f"log of the {service.name}", service.log)
        seen.add(f"output of the {service.name}", service.output)
        assert "http.request" in service.log, "the log is not at DEBUG"
    assert len(CANARIES) >= 20
    assert "\n".join(seen.leaks()) == ""
    for shown_once in (whsec, token, token.rpartition("_")[2]):
        assert [where for where, text in seen.texts.items() if shown_once in text] == []
    # The search would find them: one more text holds them all.
    seen.add("to compare", " ".join(CANARIES.values()))
    assert len(seen.leaks()) == len(CANARIES)


def register_sellers(processor: Service, hook_port: int, seen: Seen) -> str:
    """Register sellers; answers the webhook's secret, which is shown this once."""
    url = f"{processor.url}/api/v1/sellers"
    # What a seller is registered with is shown to who may manage sellers: this one answer is not looked at.
    hook = f"http://127.0.0.1:{hook_port}/hook?token={secret('webhook query')}"
    put = requests.put(f"{url}/hook1", json={"webhook_url": hook, "channels": ["webhook"]}, timeout=10)
    assert put.status_code == 200
    seen.answer(requests.put(f"{url}/mail1", json={"email": "a@example.com"}, timeout=10))
    bad = f"https://u:{secret('webhook login')}@a.example/hook"
    assert seen.answer(requests.put(f"{url}/bad1", json={"webhook_url": bad}, timeout=10)).status_code == 422
    whsec: str = put.json()["webhook_secret"]
    return whsec


def use_key(service: Service, seen: Seen) -> str:
    """Make a key, which is shown this once, and call with it, and with what it is no more."""
    made = run_flask(service, "keys", "create", "--scope", "orders:read")
    found = re.search(r"oc_[A-Za-z0-9]+_[A-Za-z0-9_-]+", made)
    assert found is not None, made
    for key in (found[0], found[0] + "x"):
        headers = {"Authorization": f"Bearer {key}"}
        seen.answer(requests.get(f"{service.url}/api/v1/orders/none", headers=headers, timeout=10))
    seen.add("list of keys", run_flask(service, "keys", "list"))
    return found[0]


def drive_orders(requestor: Service, seen: Seen) -> None:
    for number, channel in enumerate(("email", "webhook")):
        order = {"order_req_id": f"A{number}", "session_id": "s", "notification_type": channel}
        url = f"{requestor.url}/api/v1/orders/initiate"
        seen.answer(requests.post(url, json={**order, "audience": ["mail1", "hook1"]}, headers=HEADERS, timeout=10))


HEADERS = {
    "Authorization": f"Bearer {CANARIES['bearer token']}",
    "Cookie": f"session={CANARIES['cookie']}",
    "Proxy-Authorization": f"Basic {base64.b64encode(CANARIES['proxy login'].encode()).decode()}",
    "X-Api-Key": CANARIES["x-api-key"],
    # Not a sane one: what is sane is an id, stands in every log line, and is said to.
    "X-Request-ID": f"password: {CANARIES['request id']}",
}


def send_bad_requests(service: Service, seen: Seen) -> None:
    url = f"{service.url}/api/v1"
    paths = ("/orders/A0", "/orders", "/orders/none", "/orders/A0/events", "/sellers/none", "/deliveries", "/nowhere")
    basic = {"Authorization": f"Basic {base64.b64encode(secret('basic login').encode()).decode()}"}
    for path in paths:
        for headers in (HEADERS, {**HEADERS, **basic}):
            query = {"api_key": secret("query")}
            seen.answer(requests.get(url + path, headers=headers, params=query, timeout=10))
    order = {"order_req_id": "A0", "session_id": "s", "notification_type": "none"}
    note = {"order_req_id": "A0", "audience": ["mail1"], "message": {"message": "a"}}
    key = {"Idempotency-Key": f"key {secret('idempotency key')}"}
    for path, body in (("/orders/initiate", order), ("/orders/followup", note), ("/deliveries/retry", {})):
        extended = {**body, "password": secret("unknown field")}
        seen.answer(requests.post(url + path, json=extended, headers=HEADERS, timeout=10))
        seen.answer(requests.post(url + path, json=body, headers={**HEADERS, **key}, timeout=10))
        broken = f'{{"password": "{secret("malformed body")}'
        seen.answer(requests.post(url + path, data=broken, headers={"Content-Type": "application/json"}, timeout=10))
        seen.answer(
            requests.post(url + path, data=broken, headers={"Content-Type": secret("malformed body")}, timeout=10)
        )
    seen.answer(requests.get(f"{service.url}/reply/{secret('reply token')}.{'a' * 43}", timeout=10))
    seen.answer(requests.post(f"{service.url}/reply/{secret('reply token')}", data={"answer": "accepted"}, timeout=10))
    port = int(service.settings[f"{service.prefix}_PORT"])
    for line in (b"Authorization : Bearer ", b"Authorization: \x00", b" Authorization: "):
        sent = b"GET /livez HTTP/1.1\r\nHost: a\r\n" + line + secret("malformed header").encode() + b"\r\n\r\n"
        for said in exchange(port, RawCase("bad", sent, (400,), CLOSED), sent).bodies:
            seen.add("answer to a malformed header", said)


def call_grpc(port: int, seen: Seen) -> None:
    metadata = (("authorization", f"Bearer {secret('grpc metadata')}"), ("x-api-key", secret("grpc metadata")))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = order_service_pb2_grpc.OrderServiceStub(channel)
        for note in (wire.FollowUpRequest(), wire.FollowUpRequest(order_req_id=f" {secret('unknown field')}", token=1)):
            with pytest.raises(grpc.RpcError) as refusal:
                stub.SubmitFollowUp(note, metadata=metadata, timeout=10)
            seen.add("gRPC status", str(refusal.value))


def look_around(service: Service, seen: Seen) -> None:
    """Ask for what anybody can see: health, figures, lists, the operator page and its polls."""
    for path in ("/metrics", "/readyz", "/livez", "/openapi.json", "/docs", "/api/v1/health", *page_paths(service)):
        seen.answer(requests.get(service.url + path, headers=HEADERS, timeout=10))
    for path in ("/api/v1/orders", "/api/v1/orders/A0", "/api/v1/orders/A1/events", "/api/v1/deliveries"):
        seen.answer(requests.get(service.url + path, timeout=10))


def page_paths(service: Service) -> list[str]:
    app = create_processor_app() if service.prefix == "PROCESSOR" else create_requestor_app()
    return [
        rule.rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("console.") and "<" not in rule.rule
    ]


def refuse_to_start(services: Services, seen: Seen) -> None:
    """Start services whose settings are wrong, or whose store does not answer."""
    port = free_port()
    wrong = [
        services.requestor(
            "r1", REQUESTOR_STORE=f"redis://:{secret('redis password of the requestor')}@127.0.0.1:{port}/0"
        ),
        services.processor(
            "p1", PROCESSOR_STORE=f"redis://:{secret('redis password of the processor')}@127.0.0.1:{port}/0"
        ),
        services.requestor("r2", REQUESTOR_PROCESSORS=f"u:{secret('processor target')}@127.0.0.1:{port}"),
        services.requestor("r3", REQUESTOR_PORT=secret("setting"), REQUESTOR_LOG_LEVEL=secret("setting")),
        services.processor("p2", PROCESSOR_SMTP_URL=f"smtp://{secret('smtp password')}@127.0.0.1"),
        services.processor("p3", PROCESSOR_LINK_SECRET=secret("setting")[:20], PROCESSOR_PORT=secret("setting")),
    ]
    for service in wrong:
        service.launch()
    deadline = time.monotonic() + 12
    for service in wrong:
        with suppress(subprocess.TimeoutExpired):
            service.wait(max(0.1, deadline - time.monotonic()))
        service.kill()
        run_commands(service, seen)
        seen.add(f"log of a {service.name} that does not start", service.log)
        seen.add(f"output of a {service.name} that does not start", service.output)


def run_commands(service: Service, seen: Seen) -> None:
    for words in (["doctor"], ["orders", "list"]) if service.process.poll() is None else (["doctor"],):
        seen.add(f"what flask {words[0]} says", run_flask(service, *words))


def run_flask(service: Service, *words: str) -> str:
    """What a command prints, with the settings of a service."""
    environ = service.settings | {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "COLUMNS": "400"}
    command = [sys.executable, "-m", "flask", "--app", f"wsgi_{service.name}", *words]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, timeout=60, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace")
