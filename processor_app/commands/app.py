"""The app behind ``flask --app wsgi_processor``: it starts nothing, and works also when settings are at fault."""

from __future__ import annotations

from functools import partial

from flask import Flask

from processor_app.bootstrap import PROJECT_FOLDER, create_app
from processor_app.commands.deliveries import delivery_commands
from processor_app.commands.doctor import processor_patient
from processor_app.commands.sellers import seller_commands
from processor_app.settings import PREFIX, TITLE, ProcessorSettings
from service_kit.commands.audit import audit_commands
from service_kit.commands.calling import service_url
from service_kit.commands.doctor import doctor_command
from service_kit.commands.examinations import environment
from service_kit.commands.keys import key_commands
from service_kit.settings import load_valid_settings
from service_kit.storage.commands import store_commands
from service_kit.storage.opening import open_access_store
from service_kit.version import VERSION
from service_kit.web.documentation import openapi_command

URL_VARIABLE = "ORDER_COMMUNICATOR_PROCESSOR_URL"


def create_command_app() -> Flask:
    """The Flask app with the processor's commands."""
    settings = load_valid_settings(ProcessorSettings, PREFIX, environment())
    url = service_url(settings.host, settings.port)
    # Which store does not matter to its routes, and a wrong one must not stand in the way.
    app = create_app(ProcessorSettings())
    app.cli.add_command(seller_commands(url, URL_VARIABLE))
    app.cli.add_command(delivery_commands(url, URL_VARIABLE))
    app.cli.add_command(doctor_command(processor_patient(environment())))
    open_access = partial(open_access_store, settings.store, base_folder=PROJECT_FOLDER, prefix=PREFIX.lower())
    app.cli.add_command(key_commands("processor", open_access))
    app.cli.add_command(audit_commands("processor", open_access))
    app.cli.add_command(store_commands(base_folder=PROJECT_FOLDER, prefix=PREFIX.lower()))
    app.cli.add_command(openapi_command(TITLE, VERSION))
    return app
