"""Both services as processes over TLS, with what `dev.py certs` makes and prints."""

from __future__ import annotations

import socket
import subprocess
import sys

import requests

from tests.e2e.conftest import ROOT, Services, eventually, order_body, wait_for_stream


def test_the_printed_settings_are_all_it_takes(services: Services) -> None:
    command = [sys.executable, "-m", "service_kit.certificates", "--out", str(services.folder / "certs")]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, encoding="utf-8").stdout
    settings = dict(line.strip().split("=", 1) for line in said.splitlines() if line.startswith("  "))
    processor, requestor = services.processor(), services.requestor()
    for service in (processor, requestor):
        own = {name: value for name, value in settings.items() if name.startswith(service.prefix)}
        service.settings.update(own)
        service.start()
    requestor.post("/orders/initiate", order_body("A1"))
    wait_for_stream(requestor, "A1")
    # Strangers change nothing and leave no line of gRPC's own.
    for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", services.grpc_port), timeout=5) as stranger:
            stranger.sendall(greeting)
            try:
                while stranger.recv(1_000):
                    pass
            except ConnectionError:
                pass
    metrics = requests.get(f"{processor.url}/metrics", timeout=5).text
    assert "processor_grpc_certificate_expiry_timestamp_seconds 1" in metrics
    assert 'processor_check_ok{check="grpc-probe"} 1.0' in metrics
    requestor.post("/orders/A1/complete", {})
    eventually(lambda: processor.get("/orders/A1")["state"] == "completed", what="the end")
    for service in (requestor, processor):
        assert service.stop() == 0
        assert service.complaints == []
