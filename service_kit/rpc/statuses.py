"""Errors as gRPC status codes, in one table and one interceptor."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Any, NoReturn

import grpc

from service_kit import errors
from service_kit.access.model import Forbidden, Unauthorized
from service_kit.logs import get_logger
from service_kit.measures import Histogram
from service_kit.rpc.deadlines import CallDeadlines

log = get_logger(__name__)

_WATCH = "/grpc.health.v1.Health/Watch"
#: By this attribute a behaviour says which threads are to run it.
_POOL = "experimental_thread_pool"
#: Stands for a message whose bytes are none. gRPC would write a traceback to the log for each, as its caller likes.
_UNREADABLE = object()

#: The status of each class; a subclass without an entry takes its parent's.
STATUS_OF: dict[type[errors.ServiceError], grpc.StatusCode] = {
    errors.ServiceError: grpc.StatusCode.INTERNAL,
    errors.MalformedInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    Unauthorized: grpc.StatusCode.UNAUTHENTICATED,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Fenced: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Diverged: grpc.StatusCode.DATA_LOSS,
    errors.Pruned: grpc.StatusCode.OUT_OF_RANGE,
    errors.TooMany: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
}


def status_of(error: errors.ServiceError) -> grpc.StatusCode:
    """The status code that stands for the error."""
    return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)


def details_of(error: errors.ServiceError) -> str:
    """The error's detail; for invalid input followed by each field's fault."""
    if isinstance(error, errors.InvalidInput):
        return " ".join([error.detail, *(f"{fault.pointer} {fault.message};" for fault in error.errors)])
    return error.detail


class ErrorInterceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs alone
    """Turns what a handler raises into a status; anything unexpected becomes INTERNAL with an id and nothing else.

    The time of a unary call is counted; that of a stream says only how long somebody listened.
    """

    def __init__(self, call_times: Histogram, deadlines: CallDeadlines, endless: Collection[str] = ()) -> None:
        self._call_times = call_times
        self._deadlines = deadlines
        #: The methods whose calls last for as long as both sides like.
        self._endless = frozenset(endless)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the method's behaviour; runs on the serving thread, so it touches memory only."""
        handler = continuation(handler_call_details)
        if handler is None or handler_call_details.method == _WATCH:
            # A watch of health holds no thread; wrapped, it would.
            return handler
        begin = _nothing if handler_call_details.method in self._endless else self._deadlines.begin
        read = _tolerant(handler.request_deserializer)
        if handler.unary_unary:
            guarded = _guarded(self._timed(handler.unary_unary, handler_call_details.method), begin)
            if (pool := getattr(handler.unary_unary, _POOL, None)) is not None:
                setattr(guarded, _POOL, pool)
            return grpc.unary_unary_rpc_method_handler(guarded, read, handler.response_serializer)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                _guarded_stream(handler.unary_stream, begin), read, handler.response_serializer
            )
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(
                _guarded_stream(_reading(handler.stream_stream), begin), read, handler.response_serializer
            )
        return handler

    def _timed(self, behaviour: Callable[[Any, Any], Any], method: str) -> Callable[[Any, Any], Any]:
        name = method.rpartition("/")[2]

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            begun_s = time.perf_counter()
            code = grpc.StatusCode.INTERNAL
            try:
                answer = behaviour(request, context)
                code = grpc.StatusCode.OK
                return answer
            except errors.ServiceError as error:
                code = status_of(error)
                raise
            finally:
                self._call_times.observe(time.perf_counter() - begun_s, name, code.name)

        return call


def _nothing(_: grpc.ServicerContext) -> None:
    """What a call without a deadline begins with."""


def _tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    if deserialize is None:
        return None

    def read(content: bytes) -> Any:
        try:
            return deserialize(content)
        except Exception:  # noqa: BLE001  # whatever protobuf thinks of it
            return _UNREADABLE

    return read


def _checked(request: Any) -> Any:
    if request is _UNREADABLE:
        raise errors.MalformedInput("The message cannot be read.")
    return request


def _reading(behaviour: Callable[[Any, Any], Iterator[Any]]) -> Callable[[Any, Any], Iterator[Any]]:
    """A call that takes a stream of messages; reading one that is none raises `MalformedInput`."""
    return lambda requests, context: behaviour(map(_checked, requests), context)


def _guarded(
    behaviour: Callable[[Any, Any], Any], begin: Callable[[grpc.ServicerContext], None]
) -> Callable[[Any, Any], Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        begin(context)
        try:
            return behaviour(_checked(request), context)
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the caller
            _abort(error, context)

    return call


def _guarded_stream(
    behaviour: Callable[[Any, Any], Iterator[Any]], begin: Callable[[grpc.ServicerContext], None]
) -> Callable[[Any, Any], Iterator[Any]]:
    def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        begin(context)
        try:
            yield from behaviour(_checked(request), context)
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the caller
            _abort(error, context)

    return call


def _abort(error: Exception, context: grpc.ServicerContext) -> NoReturn:
    if not context.is_active():
        raise error
    if isinstance(error, errors.ServiceError):
        context.abort(status_of(error), details_of(error))
    if type(error) is Exception and not error.args:
        raise error  # what context.abort() itself raises
    error_id = uuid.uuid4().hex
    log.error("A call failed", action="rpc.failed", error_id=error_id, exc_info=error)
    context.abort(grpc.StatusCode.INTERNAL, f"internal error {error_id}")
    raise AssertionError("abort() returns never")
