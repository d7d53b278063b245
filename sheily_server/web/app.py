"""The WSGI app: routes, bodies, server-sent events, errors as responses. Only it uses Werkzeug."""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from .. import logs, metrics
from ..api.dialect import Dialect
from ..api.jobs import Jobs
from ..api.route import Follow, Route, Service, Stream, Waking
from ..api.routes import ROUTES, dialect_of, open_paths, served
from ..api.users import user_of
from ..backend.preflight import BACKGROUND, LARGE_BODIES
from ..backend.supervisor import Supervisor
from ..budget import Budget
from ..chat.chat import Chat
from ..chat.turn import Caller, ClientGoneError, Turn
from ..clients import Client, digest
from ..config import Config
from ..errors import QueueFullError, ServiceError
from ..metrics import Metrics, Outcome
from ..shares import Shares
from ..store.base import Store
from . import cors, errors
from .errors import HttpError
from .guard import GivenKeys, Guard, check_body_type
from .peers import Peers, Sender

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 10.0
WAKING_S = 0.2
"""Seconds after which a stream that waits for the engine to wake looks whether it is wanted."""
MAX_BODY_BYTES = 4 * 1024 * 1024
SMALL_BODY_BYTES = 64 * 1024
"""A body of this size is never refused because of the others, and is looked into at once."""
CLOSE_S = 5.0
"""Seconds that responses in the background have to store that they were ended."""
ARRIVED = "sheily.arrived"
"""Key in the environment of the time (time.monotonic()) at which the request was complete."""
REFUSAL = "sheily.refusal"
"""Key in the environment of the error that the request is to be answered with, if there is one."""

SPARE_POSTS = 4
"""POST requests handled beyond those that run or wait: being read, or about to be refused. Others
that may wait, as for a disk, count too. More of them would leave no thread for /health."""

KEPT_POSTS = 4
"""POST requests handled beyond those, of clients that have no other."""

KEPT_SHARE = 8
"""One part in so many of the room for large bodies is for clients that have none there."""

_PARAMETER = re.compile(r"\{(\w+)\}")
StartResponse = Any
ReadT = TypeVar("ReadT")
Environ = dict[str, Any]


class App:
    """The WSGI application."""

    def __init__(self, config: Config, supervisor: Supervisor, store: Store) -> None:
        self._config = config
        self._supervisor = supervisor
        routes = served(config, ROUTES)
        self._routes_here = ", ".join(f"{route.method} {route.path}" for route in routes)
        self._guard = Guard(config.host, config.allowed_hosts, config.api_keys, open_paths(routes))
        jobs = Jobs(config.background, Budget(BACKGROUND))
        self._metrics = Metrics(supervisor.health, lambda: jobs.running)
        self._chat = Chat(config, supervisor, metrics=self._metrics)
        self._peers = Peers(config.trusted_proxies)
        most_posts = config.parallel + config.queue + config.background + SPARE_POSTS
        self._posts = Shares(most_posts + KEPT_POSTS, KEPT_POSTS)
        self._most_large = LARGE_BODIES * MAX_BODY_BYTES
        kept = LARGE_BODIES // KEPT_SHARE * MAX_BODY_BYTES
        self._large_bodies = Shares(self._most_large, kept)
        # Decoding a large body keeps a CPU busy for a while: one at a time leaves CPUs for others.
        self._decoding = threading.Lock()
        self._service = Service(
            config=config,
            chat=self._chat,
            metrics=self._metrics,
            health=supervisor.health,
            created=int(time.time()),
            store=store,
            jobs=jobs,
        )
        rules = [
            Rule(_PARAMETER.sub(r"<\1>", path), endpoint=route, methods=[route.method])
            for route in routes
            for path in route.paths
        ]
        self._reading = {
            path
            for route in routes
            if route.method == "POST" and route.request is not None
            for path in route.paths
        }
        self._map = Map(rules, strict_slashes=False, merge_slashes=False, redirect_defaults=False)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ.setdefault(ARRIVED, time.monotonic())
        request = Request(environ, populate_request=False)  # else each would refer to the other
        request_id = f"req_{secrets.token_hex(8)}"
        dialect = dialect_of(request.path)
        response = self._respond(request, request_id, dialect)
        try:
            response.headers["X-Request-Id"] = request_id
            if dialect.id_header is not None:
                response.headers[dialect.id_header] = request_id
            origin = request.headers.get("Origin")
            for name, value in cors.headers(origin, self._config.cors_origins):
                if name == "Vary":  # the route may have its own
                    response.vary.add(value)
                else:
                    response.headers[name] = value
            return response(environ, start_response)
        except BaseException:
            response.close()
            raise

    def close(self) -> None:
        """Waits for what runs in the background, which the supervisor's end ends."""
        if not self._service.jobs.wait(CLOSE_S):
            log.warning("some responses in the background did not end, and are stored as running")

    def may_call(self, method: str, path: str, host: str | None, keys: GivenKeys) -> bool:
        """Whether a request with this head will be let in."""
        try:
            self._guard.check(method, path, host, keys)
        except ServiceError:
            return False
        return True

    def refusal(self, method: str, path: str, sender: Sender, body: bytes) -> ServiceError | None:
        """Returns the error for a request that would find no room now. With it as REFUSAL in its
        environment the request is answered without waiting for anything. `body` is empty where it
        would take long to look into."""
        if method != "POST" or path not in self._reading:
            return None
        client = self._client(sender)
        try:
            self._supervisor.check_room((*client, digest(user_of(body))) if body else client)
        except ServiceError as error:
            return error
        return None

    def _respond(self, request: Request, request_id: str, dialect: Dialect) -> Response:
        """Returns the response and counts its outcome, that of a stream when the stream ends."""
        label = metrics.OTHER_ROUTE
        try:
            self._check_caller(request)
            if request.method == "OPTIONS":
                return Response(status=204, headers=cors.preflight_headers())
            found, arguments = self._map.bind_to_environ(request.environ).match()
            label = found.path
            refusal: ServiceError | None = request.environ.get(REFUSAL)
            if refusal is not None:
                raise refusal
            response = self._work(found, request, request_id, arguments)
            if not response.is_streamed:
                self._metrics.request(label, "ok" if response.status_code < 400 else "unavailable")
            return response
        except ServiceError as error:
            self._metrics.request(label, errors.kind(error).outcome)
            if request.method == "POST":
                _log_failure(request_id, error)
            return _error_response(error, dialect, request_id)
        except ClientGoneError:
            self._metrics.request(label, "client_gone")
            _log_request(request_id, 499, detail="client gone")
            return Response(status=499)
        except HTTPException as error:
            self._metrics.request(label, "invalid")
            response = _error_response(
                _http_error(error, request, self._routes_here), dialect, request_id
            )
            if isinstance(error, MethodNotAllowed):
                response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
            return response
        except Exception:
            self._metrics.request(label, "error")
            log.exception("%s failed", request_id)
            return _error_response(_internal_error(request_id), dialect, request_id)

    def _handle(
        self,
        route: Route,
        request: Request,
        request_id: str,
        arguments: Mapping[str, str],
        held: ExitStack,
        caller: Caller,
    ) -> Response:
        """Returns the response of a route. `held` gets what the request gives back at its end."""
        read = partial(self._read, request, held)
        hold = partial(self._hold, held, caller.client)
        header = partial(_header, request)
        asked = _Asked(caller, arguments, request.args.to_dict(), read, hold, header)
        reply = route.handle(self._service, asked)
        if isinstance(reply, Stream | Waking | Follow):
            response = _stream_response(self._events(route, reply, asked.caller, request_id))
            held.callback(reply.close)
            if isinstance(reply, Follow):
                response.headers.update(reply.headers)
            elif isinstance(reply, Stream):  # in case nobody asks for the first event
                held.callback(reply.turn.ticket.cancel)
            return response
        if reply.turn is not None:
            if asked.caller.gone():  # nobody is left to read it
                raise ClientGoneError
            _log_request(request_id, reply.status, reply.turn)
        return Response(reply.body, reply.status, reply.headers, content_type=reply.content_type)

    def _work(
        self, route: Route, request: Request, request_id: str, arguments: Mapping[str, str]
    ) -> Response:
        """Handles a request. One with a body may take a thread for long: raises QueueFullError when
        there are too many of them."""
        with ExitStack() as held:
            caller = self._caller(request)
            if request.method == "POST" or route.waits:
                self._enter(held, caller.client)
            response = self._handle(route, request, request_id, arguments, held, caller)
            if response.is_streamed:
                response.call_on_close(held.pop_all().close)
            return response

    def _enter(self, held: ExitStack, client: Client) -> None:
        if not self._posts.take(client):
            self._supervisor.check_room(client)
            raise QueueFullError(self._config.parallel, self._config.queue, 1)
        held.callback(self._posts.give_back, client)

    def _read(
        self, request: Request, held: ExitStack, caller: Caller, read: Callable[[bytes], ReadT]
    ) -> tuple[Caller, ReadT]:
        """Reads the body of a request, if there is room for the request. Returns who its caller is
        by what the body says, and the body. Raises ServiceError."""
        self._supervisor.check_room(caller.client)
        body = _body(request)
        self._hold(held, caller.client, len(body))
        with self._decoding:
            client = (*caller.client, digest(user_of(body)))
            self._supervisor.check_room(client)
            return replace(caller, client=client), read(body)

    def _hold(self, held: ExitStack, client: Client, n_bytes: int) -> None:
        """Takes room until the end of the request for what is large. Raises QueueFullError."""
        n_bytes = min(n_bytes, self._most_large)  # what is larger goes alone
        if n_bytes > SMALL_BODY_BYTES:
            if not self._large_bodies.take(client, n_bytes):
                raise QueueFullError(self._config.parallel, self._config.queue, 1)
            held.callback(self._large_bodies.give_back, client, n_bytes)

    def _check_caller(self, request: Request) -> None:
        """Checks the caller before anything else. Werkzeug's `host` is not used: it has a
        default."""
        host = request.environ.get("HTTP_HOST")
        self._guard.check(request.method, request.path, host, _keys(request))

    def _caller(self, request: Request) -> Caller:
        keys, header = _keys(request), request.environ.get
        client = self._client(
            Sender(keys, header("REMOTE_ADDR", ""), header("HTTP_X_FORWARDED_FOR", ""))
        )
        return Caller(_gone(request), request.environ[ARRIVED], self._guard.scope(keys), client)

    def _client(self, sender: Sender) -> Client:
        """Returns the key and the peer of a client, whose user is in the body."""
        peer = self._peers.name(sender.address, sender.forwarded)
        return digest(self._guard.scope(sender.keys)), digest(peer)

    def _events(
        self, route: Route, reply: Stream | Waking | Follow, caller: Caller, request_id: str
    ) -> Iterator[bytes]:
        """Yields the events of an answer as they come, and keep-alive comments while none come. An
        error is the last event."""
        dialect = route.dialect
        outcome: Outcome = "error"
        status, detail = 500, "internal_error"
        try:
            last_sent = time.monotonic()
            for part in self._parts(reply, caller, dialect):
                if part is not None:
                    yield part
                    last_sent = time.monotonic()
                    continue
                if caller.gone():
                    raise ClientGoneError
                if time.monotonic() - last_sent >= KEEP_ALIVE_S:
                    yield dialect.keep_alive
                    last_sent = time.monotonic()
            outcome, status, detail = "ok", 200, ""
        except ServiceError as error:
            status, outcome = errors.kind(error)
            detail = _name(error)
            yield reply.error(errors.body(error, dialect, request_id))
        except (ClientGoneError, GeneratorExit):  # the latter is thrown at any yield
            outcome, status, detail = "client_gone", 499, "client gone"
        except Exception:
            log.exception("%s failed", request_id)
            yield reply.error(errors.body(_internal_error(request_id), dialect, request_id))
        finally:
            turn = reply.turn
            if turn is not None and turn.finished is None:
                turn.ticket.cancel()
            self._metrics.request(route.path, outcome)
            _log_request(request_id, status, turn, detail)

    def _parts(
        self, reply: Stream | Waking | Follow, caller: Caller, dialect: Dialect
    ) -> Iterator[bytes | None]:
        """Yields the events of a turn, and None when nothing came for a short while."""
        if isinstance(reply, Follow):
            yield from reply.events
            return
        if isinstance(reply, Waking):
            yield dialect.keep_alive
            while not self._chat.is_awake(reply.ticket, caller, WAKING_S):
                yield None
            stream = reply.begun = reply.begin()
        else:
            stream = reply
        yield from stream.events.first()
        for piece in self._chat.pieces(stream.turn, caller):
            if piece is None:
                yield None
            else:
                yield from stream.events.of(piece)
        yield from stream.events.last()


@dataclass(slots=True)
class _Asked:
    """Implements `api.route.Asked`. Its body says which user the `caller` is."""

    caller: Caller
    arguments: Mapping[str, str]
    query: Mapping[str, str]
    read_as: Callable[..., Any]
    hold: Callable[[int], None]
    header: Callable[[str], str]

    def read(self, decode: Callable[[bytes], ReadT]) -> ReadT:
        found: ReadT
        self.caller, found = self.read_as(self.caller, decode)
        return found


def _header(request: Request, name: str) -> str:
    return request.headers.get(name, "")


def _stream_response(events: Iterator[bytes]) -> Response:
    return Response(
        events,
        content_type="text/event-stream; charset=utf-8",
        headers=[("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")],
    )


def _body(request: Request) -> bytes:
    """Reads the body; nothing else does. Raises HttpError: 413, 415."""
    check_body_type(request.headers.get("Content-Type"), request.headers.get("Content-Encoding"))
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise HttpError(
            413, f"The body is larger than {MAX_BODY_BYTES} bytes.", "request_too_large"
        )
    return request.get_data(cache=False)


def _gone(request: Request) -> Callable[[], bool]:
    """Returns a function that asks waitress whether the client has closed its connection."""
    check = request.environ.get("waitress.client_disconnected")
    return check if callable(check) else lambda: False


def _keys(request: Request) -> GivenKeys:
    header = request.environ.get
    return GivenKeys(header("HTTP_AUTHORIZATION"), header("HTTP_X_API_KEY"))


def _json_response(body: bytes, status: int = 200) -> Response:
    return Response(body, status, content_type="application/json")


def _error_response(error: ServiceError, dialect: Dialect, request_id: str) -> Response:
    body = errors.body(error, dialect, request_id)
    response = _json_response(body, errors.kind(error).status)
    response.headers.update(errors.headers(error))
    return response


def _http_error(error: HTTPException, request: Request, routes: str) -> HttpError:
    status = error.code or 500
    messages = {
        404: f"There is no {request.path} here; there are {routes}.",
        405: f"{request.path} does not take {request.method}.",
    }
    codes = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
    return HttpError(
        status,
        messages.get(status, error.description or error.name),
        codes.get(status, "invalid_request"),
    )


def _internal_error(request_id: str) -> HttpError:
    return HttpError(
        500, f"The server made an error; its log has it under {request_id}.", "internal_error"
    )


def _log_failure(request_id: str, error: ServiceError) -> None:
    _log_request(request_id, errors.kind(error).status, detail=_name(error))


def _name(error: ServiceError) -> str:
    return error.code or type(error).__name__


def _log_request(request_id: str, status: int, turn: Turn | None = None, detail: str = "") -> None:
    """Logs a request in one line: id, status, tokens, time to first token, tokens per second; and
    as fields."""
    parts = [request_id, str(status)]
    fields: dict[str, Any] = {"request_id": request_id, "status": status}
    if turn is not None:
        parts.append(f"prompt={turn.prompt_tokens}")
        fields["prompt_tokens"] = turn.prompt_tokens
        if turn.finished is not None:
            done, reasons = turn.finished, list(turn.finish_reasons.values())
            parts += [
                f"cached={done.cached_tokens}",
                f"completion={done.completion_tokens}",
                f"finish={','.join(reasons)}",
            ]
            fields["cached_tokens"] = done.cached_tokens
            fields["completion_tokens"] = done.completion_tokens
            fields["finish_reasons"] = reasons
            if turn.first_token_s is not None:
                parts.append(f"first_token={turn.first_token_s:.3f}s")
                fields["first_token_s"] = round(turn.first_token_s, 3)
            speed = turn.tokens_per_second()
            if speed is not None:
                parts.append(f"speed={speed:.2f}tok/s")
                fields["tokens_per_second"] = speed
        if turn.timed_out:
            parts.append("(timed out)")
        fields["timed_out"] = turn.timed_out
    if detail:
        parts.append(f"({detail})")
        fields["detail"] = detail
    log.info("%s", " ".join(parts), extra={logs.FIELDS: fields})
