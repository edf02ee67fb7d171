"""The service describes its REST interface: /openapi.json for programs, and /docs for people.

The page is made from the same document, on the server and without a script, so it loads nothing from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import click
from flask import Blueprint, Response, current_app, render_template, request
from flask.cli import with_appcontext

from service_kit.web.documented_calls import groups_of
from service_kit.web.openapi import build_openapi, operation

_TEMPLATES = Path(__file__).parent / "templates"
#: A host as it may stand in a link; another one is not repeated.
_SANE_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_CSP = "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def create_documentation_blueprint(title: str, version: str) -> Blueprint:
    """The blueprint of /openapi.json and /docs."""
    blueprint = Blueprint("documentation", __name__, template_folder=str(_TEMPLATES))

    # Built by the first call, because routes may be added until then.
    @cache
    def document() -> dict[str, Any]:
        return build_openapi(current_app, title, version)

    @cache
    def document_text() -> str:
        return json.dumps(document(), separators=(",", ":"))

    @cache
    def style() -> str:
        return (_TEMPLATES / "docs" / "style.css").read_text(encoding="utf-8")

    @blueprint.get("/openapi.json")
    @operation(summary="Describe every call, for programs", public=True)
    def openapi() -> Response:
        """Answer the OpenAPI document."""
        return Response(document_text(), content_type="application/json")

    @blueprint.get("/docs")
    @operation(summary="Describe every call, for people", answer_type="text/html", public=True)
    def docs() -> Response:
        """Answer a page that is made from the OpenAPI document."""
        groups = groups_of(document(), _own_url())
        page = render_template("docs/page.html", info=document()["info"], groups=groups, style=style())
        response = Response(page, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = _CSP.format(style=_hash_of(style()))
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Frame-Options"] = "DENY"
        return response

    return blueprint


def _own_url() -> str:
    """Where the reader has found this page, for the examples."""
    host = request.host
    return f"{request.scheme}://{host}" if _SANE_HOST.fullmatch(host) else "http://localhost"


def _hash_of(style: str) -> str:
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def openapi_command(title: str, version: str) -> click.Command:
    """``openapi``: prints the document of the app, as it is committed in ``docs/openapi/``."""

    @click.command("openapi", help="Print the OpenAPI document of the REST interface.")
    @with_appcontext
    def openapi() -> None:
        document = build_openapi(current_app, title, version)
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))

    return openapi
