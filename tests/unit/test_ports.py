from __future__ import annotations

import errno
import os
import socket

import pytest

from service_kit.ports import bind_refused_line, port_taken_line


def test_a_taken_port_is_named_with_its_setting_and_how_to_find_its_holder():
    line = port_taken_line(50052, "PROCESSOR_GRPC_PORT")
    assert "50052" in line
    assert "PROCESSOR_GRPC_PORT" in line
    assert "netstat -ano | findstr :50052" in line
    assert "ss -ltnp 'sport = :50052'" in line


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EADDRINUSE, "in use"), "Port 80 is already in use"),
        (OSError(errno.EADDRNOTAVAIL, "not available"), "REQUESTOR_HOST"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "REQUESTOR_HOST"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    ],
)
def test_every_reason_gives_one_line_that_says_what_to_change(error, expected):
    line = bind_refused_line(error, "10.0.0.1", 80, "REQUESTOR_PORT")
    assert expected in line
    assert "\n" not in line


@pytest.mark.skipif(os.name == "nt", reason="Windows means a taken port by it")
def test_a_missing_permission_is_told_apart():
    line = bind_refused_line(PermissionError(errno.EACCES, "denied"), "127.0.0.1", 80, "REQUESTOR_PORT")
    assert "No permission" in line
    assert "REQUESTOR_PORT" in line
