from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask.testing import FlaskClient

from processor_app.bootstrap import Processor
from processor_app.bootstrap import create_app as create_processor_app
from processor_app.settings import ProcessorSettings
from requestor_app.bootstrap import Requestor
from requestor_app.bootstrap import create_app as create_requestor_app
from requestor_app.settings import RequestorSettings
from tests.described import DescribedClient


class Pair(NamedTuple):
    """Both services, running in this process on free ports."""

    requestor: Requestor
    processor: Processor

    @property
    def requestor_url(self) -> str:
        return f"http://127.0.0.1:{self.requestor.web.port}/api/v1"

    @property
    def processor_url(self) -> str:
        return f"http://127.0.0.1:{self.processor.web.port}/api/v1"


def make_requestor(folder: Path, *processors: str, **other: Any) -> Requestor:
    """The requestor's parts with a store in the folder, not started."""
    # Port 1 is nobody's: an order waits for its processor.
    settings = RequestorSettings(
        store=f"sqlite:///{folder / 'requestor.db'}", port=0, processors=processors or ("127.0.0.1:1",), **other
    )
    parts: Requestor = create_requestor_app(settings).extensions["requestor"]
    parts.app.test_client_class = DescribedClient
    return parts


def make_processor(folder: Path, **other: Any) -> Processor:
    """The processor's parts with a store in the folder, not started."""
    settings = ProcessorSettings(store=f"sqlite:///{folder / 'processor.db'}", port=0, grpc_port=0, **other)
    parts: Processor = create_processor_app(settings).extensions["processor"]
    parts.app.test_client_class = DescribedClient
    return parts


@pytest.fixture
def requestor(tmp_path: Path) -> Iterator[Requestor]:
    """The requestor's parts, of which only the store and the lease are started."""
    parts = make_requestor(tmp_path)
    parts.store.start()
    parts.lease.start()
    yield parts
    parts.lease.stop(5)
    parts.store.stop()


@pytest.fixture
def processor(tmp_path: Path) -> Iterator[Processor]:
    """The processor's parts, of which only the store is started."""
    parts = make_processor(tmp_path)
    parts.store.start()
    yield parts
    parts.store.stop()


@pytest.fixture
def requestor_client(requestor: Requestor) -> FlaskClient:
    return requestor.app.test_client()


@pytest.fixture
def processor_client(processor: Processor) -> FlaskClient:
    return processor.app.test_client()


@pytest.fixture
def running_processor(tmp_path: Path) -> Iterator[Processor]:
    """The processor with everything started, on free ports."""
    parts = make_processor(tmp_path)
    parts.lifecycle.start()
    yield parts
    parts.lifecycle.stop()


@pytest.fixture
def running_pair(running_processor: Processor, tmp_path: Path) -> Iterator[Pair]:
    """Both services with everything started, connected to each other."""
    parts = make_requestor(tmp_path, f"127.0.0.1:{running_processor.grpc_server.port}")
    parts.lifecycle.start()
    yield Pair(parts, running_processor)
    parts.lifecycle.stop()
