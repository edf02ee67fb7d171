"""``dev.py up``: both services, in any number, until Ctrl+C."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from devtools.processes import ROOT, Fault, Progress, child_environment, say
from devtools.services import Address, RedisServer, Service, wait_until_ready, watch

#: Where a Redis of our own keeps what several instances share, and how many instances there may be.
REDIS_FOLDER = "data/redis"
MAX_INSTANCES = 16


def first_calls(base: str, *, powershell: bool) -> str:
    """Three calls to try, for the shell of the system."""
    body = '{"order_req_id": "TEST001", "session_id": "sess_test_001", "notification_type": "email"}'
    orders = f"{base}/api/v1/orders"
    if powershell:
        # Windows PowerShell strips the quotes of an argument to curl.exe, so the body goes another way.
        initiate = f"Invoke-RestMethod -Method Post {orders}/initiate -ContentType application/json -Body '{body}'"
    else:
        initiate = f"curl -X POST {orders}/initiate -H 'Content-Type: application/json' -d '{body}'"
    curl = "curl.exe" if powershell else "curl"
    return "\n".join([initiate, f"{curl} {orders}/tracking/status", f"{curl} {orders}/TEST001"])


def link_secret(folder: Path) -> str:
    """What all processors sign reply links with; made once."""
    file = folder / "link-secret"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(32), encoding="ascii")
    return file.read_text(encoding="ascii").strip()


def instances_of(count: int, redis_url: str | None) -> list[Service]:
    """The services of ``up``, processors first: the first of each at its usual place, the others at free ports."""
    processors = [Address.of("PROCESSOR", 8005, os.environ)]
    requestors = [Address.of("REQUESTOR", 8004, os.environ)]
    grpcs = [Address.of("PROCESSOR", 50052, os.environ, "GRPC_PORT")]
    # An older run would answer in the place of ours.
    for variable, address in (
        ("PROCESSOR_PORT", processors[0]),
        ("PROCESSOR_GRPC_PORT", grpcs[0]),
        ("REQUESTOR_PORT", requestors[0]),
    ):
        if address.is_taken():
            raise Fault(f"port {address.port} is in use; stop what uses it, or set {variable} to another port")
    if redis_url is None:
        return [Service("processor", processors[0]), Service("requestor", requestors[0])]
    for addresses in (processors, grpcs, requestors):
        addresses += [addresses[0]._replace(port=0).or_free() for _ in range(count - 1)]
    shared = child_environment()
    shared.setdefault("PROCESSOR_LINK_SECRET", link_secret(ROOT / REDIS_FOLDER))
    shared |= {"PROCESSOR_STORE": redis_url, "REQUESTOR_STORE": redis_url}
    shared["REQUESTOR_PROCESSORS"] = ",".join(f"{grpc.host}:{grpc.port}" for grpc in grpcs)
    return [
        *(
            Service(
                "processor",
                address,
                environment={**shared, "PROCESSOR_PORT": str(address.port), "PROCESSOR_GRPC_PORT": str(grpc.port)},
            )
            for address, grpc in zip(processors, grpcs, strict=True)
        ),
        *(
            Service("requestor", address, environment={**shared, "REQUESTOR_PORT": str(address.port)})
            for address in requestors
        ),
    ]


def up(python: Path, progress: Progress, *, instances: int = 1, redis: str | None = None) -> int:
    """Run both services until Ctrl+C or SIGTERM; with ``redis`` (a URL, or "" for our own) any number."""
    if not 1 <= instances <= MAX_INSTANCES:
        raise Fault(f"--instances must be from 1 to {MAX_INSTANCES}", 2)
    if instances > 1 and redis is None:
        raise Fault("several instances share their store: use --instances together with --redis", 2)
    server = RedisServer(ROOT / REDIS_FOLDER) if redis == "" else None
    services: list[Service] = []
    try:
        if server is not None:
            progress("starting redis-server")
            server.start()
        services = instances_of(instances, redis if server is None else server.url)
        for service in services:
            progress(f"starting {service.name}")
            service.start(python)
        wait_until_ready(services, progress)
        say("")
        for service in services:
            say(f"{service.name}: {service.address.url}  (page: /, API: /docs, metrics: /metrics)")
        if server is not None:
            say(f"redis: {server.url}")
        requestor = next(service for service in services if service.name == "requestor")
        say("\nTry in another terminal:\n")
        say(first_calls(requestor.address.url, powershell=sys.platform == "win32"))
        say("\nCtrl+C stops both.\n" if len(services) == 2 else "\nCtrl+C stops all.\n")
        watch(services)
    except KeyboardInterrupt:
        say("stopping")
    finally:
        for service in reversed(services):
            service.stop()
        if server is not None:
            server.stop()
    say("stopped")
    return 0
