"""Runs the requestor: ``python wsgi_requestor.py`` from any folder; ``wsgi_requestor:app`` is its Flask app.

``flask --app wsgi_requestor --help`` shows its commands.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from requestor_app.bootstrap import build_requestor, create_app
from requestor_app.exposure import warnings as exposure_warnings
from requestor_app.settings import PREFIX, RequestorSettings
from service_kit.errors import StartRefused
from service_kit.failpoints import check_failpoints
from service_kit.lifecycle import Lifecycle, end_process, report_refusal, run_until_stopped
from service_kit.logs import configure_logs, get_logger, log_writer
from service_kit.one_core import OneCore
from service_kit.settings import load_settings, unknown_variables


def __getattr__(name: str) -> Any:
    """Build ``app`` when it is asked for, so that importing this module reads and makes nothing."""
    if name == "app" and os.environ.get("FLASK_RUN_FROM_CLI") == "true":
        # Commands work beside the running service, which itself loads nothing of them.
        return import_module("requestor_app.commands.app").create_command_app()
    if name == "app":
        return create_app()
    raise AttributeError(name)


def main() -> int:
    """Settings, parts, start, serve until a signal, stop; answers the exit status."""
    try:
        check_failpoints()
        settings = load_settings(RequestorSettings, PREFIX)
        configure_logs(settings.log_format, settings.log_level, service="requestor")
        parts = build_requestor(settings)
    except StartRefused as refusal:
        return report_refusal(refusal)
    for warning in unknown_variables(RequestorSettings, PREFIX):
        get_logger(__name__).warning(warning, action="settings.unknown")
    for warning in exposure_warnings(settings):
        get_logger(__name__).warning(warning, action="settings.exposed")
    one_core = OneCore(is_wanted=settings.one_core)
    return run_until_stopped(Lifecycle([log_writer(), one_core, *parts.lifecycle.components]))


if __name__ == "__main__":
    end_process(main())
