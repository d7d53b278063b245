"""HTTP: routes, bodies, server-sent events, and errors as responses. The only user of Werkzeug."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from . import cors, openai
from .chat import Chat, ClientGoneError, Turn, simple_messages, simple_param
from .config import Config
from .errors import ApiError, invalid_request
from .supervisor import Supervisor

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 10.0
MAX_BODY_BYTES = 4 * 1024 * 1024

StartResponse = Any
Environ = dict[str, Any]


class App:
    """The WSGI application."""

    def __init__(self, config: Config, supervisor: Supervisor) -> None:
        self._config = config
        self._supervisor = supervisor
        self._chat = Chat(config, supervisor)
        self._created = int(time.time())
        self._routes: dict[str, Callable[[Request, str], Response]] = {
            "health": self._health,
            "models": self._models,
            "completions": self._completions,
            "simple": self._simple,
        }
        self._map = Map(
            [
                Rule("/health", endpoint="health", methods=["GET"]),
                Rule("/v1/models", endpoint="models", methods=["GET"]),
                Rule("/v1/chat/completions", endpoint="completions", methods=["POST"]),
                Rule("/chat", endpoint="simple", methods=["POST"]),
            ],
            strict_slashes=False,
            merge_slashes=False,
            redirect_defaults=False,
        )

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        request_id = f"req_{secrets.token_hex(8)}"
        response = self._respond(request, request_id)
        response.headers["X-Request-Id"] = request_id
        for name, value in cors.headers(request.headers.get("Origin"), self._config.cors_origins):
            response.headers[name] = value
        return response(environ, start_response)

    def _respond(self, request: Request, request_id: str) -> Response:
        try:
            if request.method == "OPTIONS":
                return Response(status=204, headers=cors.preflight_headers())
            endpoint, _ = self._map.bind_to_environ(request.environ).match()
            return self._routes[endpoint](request, request_id)
        except ApiError as error:
            if request.method == "POST":
                _log_request(request_id, error.status, detail=error.code or error.type)
            return _error_response(error)
        except ClientGoneError:
            _log_request(request_id, 499, detail="client gone")
            return Response(status=499)
        except HTTPException as error:
            response = _error_response(_http_error(error, request))
            if isinstance(error, MethodNotAllowed):
                response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
            return response
        except Exception:
            log.exception("%s failed", request_id)
            return _error_response(
                ApiError(
                    500,
                    f"The server made an error; its log has it under {request_id}.",
                    type="server_error",
                    code="internal_error",
                )
            )

    def _health(self, request: Request, request_id: str) -> Response:
        health = self._supervisor.health()
        body: dict[str, Any] = {
            "status": "ok" if health.state == "ready" else "unavailable",
            "state": health.state,
            "model": self._chat.model,
            "model_path": os.fspath(self._config.model_path),
            "context_size": self._config.context_size,
            "reason": health.reason,
            "progress": health.progress,
            "parallel": self._config.parallel,
            "queue": self._config.queue,
            "active_requests": health.running,
            "engine_restarts": health.restarts,
        }
        return _json_response(msgspec.json.encode(body), 200 if health.state == "ready" else 503)

    def _models(self, request: Request, request_id: str) -> Response:
        model = {
            "id": self._chat.model,
            "object": "model",
            "created": self._created,
            "owned_by": "local",
        }
        return _json_response(msgspec.json.encode({"object": "list", "data": [model]}))

    def _completions(self, request: Request, request_id: str) -> Response:
        body = openai.decode_request(_body(request), openai.ChatRequest)
        if body.stream_options is not None and not body.stream:
            raise invalid_request(
                "stream_options is only allowed when stream is true.", "stream_options"
            )
        gone = _gone(request)
        turn = self._chat.begin(body, body.messages, gone)
        if body.stream:
            include_usage = bool(body.stream_options and body.stream_options.include_usage)
            return self._stream(turn, include_usage, gone, request_id)
        text = self._collect(turn, gone, request_id)
        assert turn.finished is not None
        answer = openai.ChatCompletion(
            id=turn.id,
            created=turn.created,
            model=turn.model,
            choices=[openai.Choice(openai.AnswerMessage(text), turn.finished.reason)],
            usage=turn.usage(),
            sheily=turn.extension(),
        )
        return _json_response(openai.encode(answer))

    def _simple(self, request: Request, request_id: str) -> Response:
        body = openai.decode_request(_body(request), openai.SimpleChatRequest)
        gone = _gone(request)
        try:
            turn = self._chat.begin(body, simple_messages(body), gone)
        except ApiError as error:
            error.param = simple_param(body, error.param)
            raise
        text = self._collect(turn, gone, request_id)
        assert turn.finished is not None
        answer = openai.SimpleChatResponse(
            response=text,
            model=turn.model,
            finish_reason=turn.finished.reason,
            usage=turn.usage(),
            dropped_messages=turn.dropped_messages,
            timed_out=turn.finished.timed_out,
        )
        return _json_response(openai.encode(answer))

    def _collect(self, turn: Turn, gone: Callable[[], bool], request_id: str) -> str:
        text = "".join(piece for piece in self._chat.pieces(turn, gone) if piece)
        _log_request(request_id, 200, turn)
        return text

    def _stream(
        self, turn: Turn, include_usage: bool, gone: Callable[[], bool], request_id: str
    ) -> Response:
        return Response(
            self._events(turn, include_usage, gone, request_id),
            content_type="text/event-stream; charset=utf-8",
            headers=[("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")],
            direct_passthrough=True,
        )

    def _events(
        self, turn: Turn, include_usage: bool, gone: Callable[[], bool], request_id: str
    ) -> Iterator[bytes]:
        """The chunks of a stream: the role, text as it comes, the reason it ended, the usage if
        asked for, [DONE]. An error is an event of its own, with no [DONE] behind it."""
        usage: msgspec.UnsetType | None = None if include_usage else msgspec.UNSET

        def chunk(delta: openai.Delta, reason: str | None = None, **more: Any) -> bytes:
            choices = [openai.ChunkChoice(delta, reason)]
            return _event(
                openai.ChatCompletionChunk(
                    turn.id, turn.created, turn.model, choices, usage=usage, **more
                )
            )

        outcome = "client gone"
        try:
            first = openai.Delta(role="assistant", content="")
            yield chunk(first, sheily=turn.extension())
            last_sent = time.monotonic()
            for piece in self._chat.pieces(turn, gone):
                if piece is not None:
                    yield chunk(openai.Delta(content=piece))
                    last_sent = time.monotonic()
                elif time.monotonic() - last_sent >= KEEP_ALIVE_S:
                    yield b": keep-alive\n\n"
                    last_sent = time.monotonic()
            assert turn.finished is not None
            yield chunk(openai.Delta(), turn.finished.reason, sheily=turn.extension())
            if include_usage:
                yield _event(
                    openai.ChatCompletionChunk(
                        turn.id, turn.created, turn.model, [], usage=turn.usage()
                    )
                )
            yield b"data: [DONE]\n\n"
            outcome = ""
        except ApiError as error:
            outcome = error.code or error.type
            yield b"data: " + msgspec.json.encode(error.body()) + b"\n\n"
        except ClientGoneError:
            pass
        finally:
            # Closing the generator at any yield comes here too: a client that went away.
            if turn.finished is None:
                turn.ticket.cancel()
            _log_request(request_id, 200, turn, outcome)


def _body(request: Request) -> bytes:
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise invalid_request(
            f"The body is larger than {MAX_BODY_BYTES} bytes.",
            code="request_too_large",
            status=413,
        )
    return request.get_data(cache=False)


def _gone(request: Request) -> Callable[[], bool]:
    """Whether the client has closed its connection, as waitress tells it."""
    check = request.environ.get("waitress.client_disconnected")
    return check if callable(check) else lambda: False


def _json_response(body: bytes, status: int = 200) -> Response:
    return Response(body, status, content_type="application/json")


def _error_response(error: ApiError) -> Response:
    response = _json_response(msgspec.json.encode(error.body()), error.status)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if not error.retry:
        response.headers["X-Should-Retry"] = "false"
    return response


def _http_error(error: HTTPException, request: Request) -> ApiError:
    status = error.code or 500
    messages = {
        404: f"There is no {request.path} here.",
        405: f"{request.path} does not take {request.method}.",
    }
    codes = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
    return invalid_request(
        messages.get(status, error.description or error.name),
        code=codes.get(status, "invalid_request"),
        status=status,
    )


def _event(value: msgspec.Struct) -> bytes:
    return b"data: " + openai.encode(value) + b"\n\n"


def _log_request(request_id: str, status: int, turn: Turn | None = None, detail: str = "") -> None:
    """One line for a request: id, status, tokens, time to first token, tokens a second."""
    parts = [request_id, str(status)]
    if turn is not None:
        parts.append(f"prompt={turn.prompt_tokens}")
        if turn.finished is not None:
            done = turn.finished
            parts += [
                f"cached={done.cached_tokens}",
                f"completion={done.completion_tokens}",
                f"finish={done.reason}",
            ]
            if turn.first_token_s is not None:
                parts.append(f"first_token={turn.first_token_s:.3f}s")
            if done.completion_tokens > 1 and done.decode_s > 0:
                parts.append(f"speed={(done.completion_tokens - 1) / done.decode_s:.2f}tok/s")
        if turn.finished is not None and turn.finished.timed_out:
            parts.append("(timed out)")
    if detail:
        parts.append(f"({detail})")
    log.info("%s", " ".join(parts))
