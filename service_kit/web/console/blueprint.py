"""The blueprint that an app's operator page is put on: its files, and what keeps it safe in a browser.

A page shows texts that buyers and sellers wrote. It runs no script but its own file, loads nothing from elsewhere, and
is shown in no frame; its script puts texts in as text only. An action is taken from the page itself and from no other
site, since a browser sends such a call without asking.
"""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, request, send_from_directory
from werkzeug.wrappers import Response

from service_kit.web.console.audit import add_audit_page
from service_kit.web.console.sign_in import add_sign_in
from service_kit.web.guard import CONSOLE, READING, for_anybody
from service_kit.web.problems import ForeignOrigin

#: The name of every console blueprint; its routes are no part of the public interface.
NAME = CONSOLE
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Robots-Tag": "noindex, nofollow",
}
_FOLDER = Path(__file__).parent
#: Said here, because what Python takes for a file's type depends on the system, and a browser runs no other type.
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def create_console_blueprint(import_name: str) -> Blueprint:
    """A blueprint with the shared templates, files and pages; the app adds its own pages."""
    blueprint = Blueprint(
        NAME,
        import_name,
        template_folder=str(_FOLDER / "templates"),
    )
    blueprint.add_url_rule("/console/static/<path:filename>", endpoint="static", view_func=_send_file)
    add_sign_in(blueprint)
    add_audit_page(blueprint)
    blueprint.before_request(_refuse_other_sites)
    blueprint.after_request(_protect)
    return blueprint


@for_anybody
def _send_file(filename: str) -> Response:
    return send_from_directory(_FOLDER / "static", filename, mimetype=_TYPES.get(Path(filename).suffix))


def _refuse_other_sites() -> None:
    if request.method not in READING and not _is_from_here():
        raise ForeignOrigin("An action is taken from the operator page alone.")


def _is_from_here() -> bool:
    """Whether the page that sends this is ours. A browser says so in one of two headers, which no script can set."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    # Not sent to an address without TLS. The scheme is left out: in front of us may be a proxy that ends TLS.
    return request.headers.get("Origin", "").partition("://")[2] == request.host


def _protect(response: Response) -> Response:
    response.headers.update(_HEADERS)
    return response
