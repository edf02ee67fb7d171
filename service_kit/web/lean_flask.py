"""Flask without what these services never use, and pay for on every request.

No sessions, and for an endpoint that nobody has hooked no signals and no search for hooks. What is replaced here is
what Flask documents for subclasses to replace; every other case goes Flask's own way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from flask import Flask, Request, Response
from flask.globals import request_ctx
from flask.json.provider import DefaultJSONProvider
from flask.sessions import NullSession, SessionInterface
from werkzeug.datastructures import EnvironHeaders, Headers
from werkzeug.routing import MapAdapter, Rule

from service_kit.access.model import ANYBODY, Unauthorized
from service_kit.web.audited import Auditor
from service_kit.web.guard import READING, Guard, act_for, door_of, optional_principal
from service_kit.web.meter import Meter

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask.typing import ResponseReturnValue


#: How many headers a JSON answer has by itself.
_OWN_HEADERS = 2


class _LeanRequest(Request):
    """A request whose parts are taken over as the server has them."""

    def __init__(self, environ: WSGIEnvironment, populate_request: bool = True, shallow: bool = False) -> None:
        path: str = environ["PATH_INFO"]
        if environ["SCRIPT_NAME"] or not path.startswith("/") or path.startswith("//") or not path.isascii():
            super().__init__(environ, populate_request, shallow)
            return
        self.environ = environ
        self.shallow = shallow
        self.method = environ["REQUEST_METHOD"]
        self.scheme = environ["wsgi.url_scheme"]
        self.server = environ["SERVER_NAME"], int(environ["SERVER_PORT"])
        self.root_path = ""
        self.path = path
        self.query_string = environ["QUERY_STRING"].encode("latin-1")
        self.headers = EnvironHeaders(environ)
        self.remote_addr = environ.get("REMOTE_ADDR")
        if populate_request and not shallow:
            environ["werkzeug.request"] = self


class _JsonResponse(Response):
    """A response that is one piece of JSON: it goes to the server as it is."""

    def __init__(self, body: bytes) -> None:
        """What Werkzeug's own does, without looking at what it has just set."""
        self.headers = Headers()
        self.headers._list = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]  # noqa: SLF001
        self._status, self._status_code = "200 OK", 200
        self.direct_passthrough = False
        self._on_close = []
        self.response = [body]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Werkzeug's own looks for what a JSON answer has not: a location, a stream, something to close."""
        headers = self.headers._list  # noqa: SLF001 - each look into them by its methods costs as much as all of this
        if environ["REQUEST_METHOD"] == "HEAD" or self._status_code < HTTPStatus.OK or len(headers) > _OWN_HEADERS:
            return super().__call__(environ, start_response)
        start_response(self._status, headers.copy())
        return [self.get_data()]


def _json_response(document: Any) -> _JsonResponse:
    return _JsonResponse(orjson.dumps(document) + b"\n")


class _FastJson(DefaultJSONProvider):
    """Answers through orjson; what else is turned into JSON goes the usual way."""

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """A response with the value as its body."""
        return _json_response(self._prepare_response_obj(args, kwargs))


class _NoSessions(SessionInterface):
    """Nobody has a session."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002 - Flask's signature
        """The session that nothing can be kept in."""
        return self._none


class _RememberingAdapter(MapAdapter):
    """Finds a path without variable parts, once found, again without a search. There are few of those."""

    def __init__(self, remembered: dict[tuple[str, str], Rule], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._remembered = remembered

    def match(self, *args: Any, **options: Any) -> Any:
        """What Werkzeug's own finds."""
        if args or options != {"return_rule": True}:  # not as Flask asks for the view of a request
            return super().match(*args, **options)
        name = self.default_method, self.path_info
        if (known := self._remembered.get(name)) is not None:
            return known, {}
        rule, values = super().match(return_rule=True)
        if not rule.arguments and not values:
            self._remembered[name] = rule
        return rule, values


class LeanFlask(Flask):
    """Flask for synchronous views that are matched by their path alone, whatever the host is called."""

    json_provider_class = _FastJson
    request_class = _LeanRequest
    session_interface = _NoSessions()
    #: Looks at the key of every request; without one, anybody may do anything.
    guard: Guard | None = None
    #: Counts who asks; without one, anybody may ask as often as he likes.
    meter: Meter | None = None
    #: Keeps what is done here in the audit log.
    auditor: Auditor | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        self._static_rules: dict[tuple[str, str], Rule] = {}
        super().__init__(*args, **options)
        self._free_endpoints: dict[str, bool] = {}

    def preprocess_request(self) -> ResponseReturnValue | None:
        """Find out whom the request acts for, before anything else is done for it."""
        self._admit(request_ctx.request)
        return super().preprocess_request()

    def _admit(self, request: Request) -> None:
        if self.meter is not None:
            self._admit_counted(request, self.meter)
        elif self.guard is None:
            act_for(request, ANYBODY)
        else:
            self.guard.admit(request, self.view_functions)

    def _admit_counted(self, request: Request, meter: Meter) -> None:
        meter.count_address(request)
        if self.guard is None:
            act_for(request, ANYBODY)
            return
        try:
            self.guard.admit(request, self.view_functions)
        except Unauthorized:
            if "HTTP_AUTHORIZATION" in request.environ:  # to show none at all is no attempt
                meter.count_bad_key(request)
            raise
        meter.count_key(optional_principal())

    def process_response(self, response: Response) -> Response:
        """Finish an answer, errors too, and note what was done."""
        response = super().process_response(response)
        request = request_ctx.request
        is_form = request.method == "POST" and "HTTP_AUTHORIZATION" not in request.environ
        if self.meter is not None and is_form and response.status_code == HTTPStatus.UNAUTHORIZED:
            self.meter.count_bad_key(request)  # that of a sign-in
        if self.auditor is not None and request_ctx.request.method not in READING:
            self.auditor.note(request_ctx.request, response, self.view_functions)
        return response

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Match by method and path; Flask would take the host's name apart first."""
        if request is None:
            return None
        return _RememberingAdapter(
            self._static_rules,
            self.url_map,
            server_name="",
            script_name=request.root_path,
            subdomain="",
            url_scheme=request.scheme,
            path_info=request.path,
            default_method=request.method,
        )

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself: Flask would look at each call whether it is a coroutine."""
        return func

    def full_dispatch_request(self) -> Response:
        """Call the view and turn what it answers into a response."""
        request = request_ctx.request
        rule = request.url_rule
        if rule is None or not self._is_free(rule.endpoint):
            return super().full_dispatch_request()
        self._got_first_request = True
        try:
            self._admit(request)
            answer = self.dispatch_request()
        except Exception as error:  # noqa: BLE001 - the app's handlers decide
            answer = self.handle_user_exception(error)
        return self.make_response(answer)

    def make_response(self, rv: Any) -> Response:
        """What a view answers, as a response; a plain dict, which nearly all answer, at once."""
        return _json_response(rv) if type(rv) is dict else super().make_response(rv)

    def _is_free(self, endpoint: str) -> bool:
        """Whether nothing is to be done but its view: no hook is registered, and nothing of it is audited.

        It cannot change once the app has had a request.
        """
        is_free = self._free_endpoints.get(endpoint)
        if is_free is None:
            *path, _ = endpoint.split(".")
            scopes = [None, *(".".join(path[:length]) for length in range(1, len(path) + 1))]
            hooks = (self.url_value_preprocessors, self.before_request_funcs, self.after_request_funcs)
            has_hooks = any(scope in functions for functions in hooks for scope in scopes)
            door = door_of(self.view_functions[endpoint])
            is_free = not has_hooks and (door is None or not door.is_audited)
            self._free_endpoints[endpoint] = is_free
        return is_free

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """Run the functions that were registered for the end of a request."""
        if self.teardown_request_funcs:
            super().do_teardown_request(exc)

    def do_teardown_appcontext(self, exc: BaseException | None = None) -> None:
        """Run the functions that were registered for the end of a request's context."""
        if self.teardown_appcontext_funcs:
            super().do_teardown_appcontext(exc)
