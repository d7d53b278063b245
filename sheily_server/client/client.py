"""`LLMClient`: the server's routes as methods."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from .connections import Connections
from .pipeline import fitting, messages_of
from .replies import (
    PipelineReply,
    Reply,
    completed,
    completed_delta,
    delta,
    parse_object,
    raise_for_status,
    reply,
)
from .responses import Response, raise_for_end, response
from .streams import RESPONSES, ResponseStream, chunks, place

URL = "http://127.0.0.1:8005"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HEALTH_TIMEOUT = 10.0
"""Most seconds that `/health` may take: it answers at once under any load."""


class LLMClient:
    """Calls one server. Safe to share between threads; each call has its own connection.

    `timeout` is the longest silence in seconds, not the length of a call: a stream goes on while
    tokens or keep-alive comments come. Nothing is ever asked twice: only the stream of a background
    response is resumed. Proxies are not used.

    >>> with LLMClient() as client:  # doctest: +SKIP
    ...     print(client.chat("Hello").text)
    """

    def __init__(
        self,
        base_url: str = URL,
        *,
        timeout: float = 300.0,
        api_key: str | None = None,
    ) -> None:
        """Does not connect yet. `base_url` may end in `/v1`. Raises ValueError for a bad
        argument."""
        self._server = Connections(base_url, timeout, api_key)

    def __enter__(self) -> LLMClient:
        """Returns the client. It is closed at the end of the block."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Closes the client."""
        self.close()

    def close(self) -> None:
        """Ends running calls and streams, which then raise. New ones raise RuntimeError."""
        self._server.close()

    def health_check(self) -> dict[str, Any]:
        """Returns `GET /health`'s body, whatever its status: a server without a model says so."""
        with self._server.exchange(
            "GET", "/health", timeout=min(self._server.timeout, HEALTH_TIMEOUT)
        ) as answer:
            return parse_object(self._server.read(answer), f"/health (HTTP {answer.status})")

    def chat(self, messages: Sequence[Mapping[str, Any]] | str, **options: Any) -> Reply:
        """Asks for a whole answer. A string counts as one user message.

        `options` are the fields of OpenAI's chat completions, such as `max_tokens`. `prediction`
        may also be a string: text that the answer will mostly repeat, such as a text to correct. It
        makes the answer faster. Raises LLMAPIError, LLMConnectionError, LLMTimeoutError or
        LLMProtocolError.
        """
        return reply(self._whole("POST", CHAT, _chat(messages, options, stream=False)))

    def stream(
        self, messages: Sequence[Mapping[str, Any]] | str, **options: Any
    ) -> Generator[str, None, None]:
        """Asks for an answer and yields its text in pieces, as they come.

        Sends the request when the first piece is asked for. Closing the generator closes the
        connection, and the server stops there. With `n` above 1, yields the first choice alone.
        Raises what `chat` raises, and StreamInterruptedError.
        """
        return _texts(self.chunks(messages, **options), delta)

    def chunks(
        self, messages: Sequence[Mapping[str, Any]] | str, **options: Any
    ) -> Generator[dict[str, Any], None, None]:
        """Asks for an answer as `stream` does, and yields the chunks whole, as the server sends
        them. Raises what `stream` raises."""
        return chunks(self._server, CHAT, _chat(messages, options, stream=True))

    def complete(self, prompt: str | Sequence[Any], **options: Any) -> Reply:
        """Has a raw prompt continued: a text, token ids, or a list of either.

        `options` are the fields of OpenAI's completions, such as `max_tokens`, which is 16 by
        default. With several prompts or answers, `text` is the first one's and `raw` has all.
        Raises what `chat` raises.
        """
        return completed(
            self._whole("POST", COMPLETIONS, _payload({"prompt": prompt}, options, stream=False))
        )

    def complete_stream(
        self, prompt: str | Sequence[Any], **options: Any
    ) -> Generator[str, None, None]:
        """Has a raw prompt continued, and yields the text in pieces, as `stream` does."""
        payload = _payload({"prompt": prompt}, options, stream=True)
        return _texts(chunks(self._server, COMPLETIONS, payload), completed_delta)

    def respond(
        self,
        input: Sequence[Mapping[str, Any]] | str,
        *,
        instructions: str | None = None,
        previous_response_id: str | None = None,
        background: bool = False,
        **options: Any,
    ) -> Response:
        """Asks for a whole response to a text or to items of OpenAI's Responses API.

        `previous_response_id` goes on with a stored response's conversation. With `background` it
        returns at once; then `retrieve` tells how far the response is, and `resume` follows it.
        `options` are the further fields of the endpoint, such as `max_output_tokens`.

        Raises what `chat` raises, ServerError also for a response that failed, and
        ResponseCancelledError. An incomplete response is returned; its `status` says so.
        """
        body = _respond(input, instructions, previous_response_id, background)
        found = response(self._whole("POST", RESPONSES, _payload(body, options, stream=False)))
        raise_for_end(found)
        return found

    def respond_stream(
        self,
        input: Sequence[Mapping[str, Any]] | str,
        *,
        instructions: str | None = None,
        previous_response_id: str | None = None,
        background: bool = False,
        **options: Any,
    ) -> ResponseStream:
        """Asks for a response as `respond` does, and yields its text in pieces, as they come.

        A background response outlives its connection. If that is lost, the stream resumes by
        itself. Raises what `respond` raises, and StreamInterruptedError.
        """
        body = _respond(input, instructions, previous_response_id, background)
        payload = _payload(body, options, stream=True)
        return ResponseStream(self._server, payload=payload, resumes=background)

    def resume(self, id: str, *, starting_after: int | None = None) -> ResponseStream:
        """Yields the text of a background response behind the event with that sequence number, or
        from the beginning. Raises what `respond_stream` raises."""
        return ResponseStream(self._server, id=id, starting_after=starting_after)

    def retrieve(self, id: str) -> Response:
        """Returns a response as it is now, whatever its status. Raises what `chat` raises."""
        return response(self._whole("GET", place(id)))

    def cancel(self, id: str) -> Response:
        """Stops a background response, and returns it. Raises what `chat` raises."""
        return response(self._whole("POST", f"{place(id)}/cancel"))

    def process_pipeline(
        self, query: str, context: str | Sequence[str], **options: Any
    ) -> PipelineReply:
        """Answers `query` from `context` alone, a text or a list of documents, as `chat` does.

        Documents without text are left out. If none remain, the model is told that there are none.
        If they do not all fit into the server's context beside the answer, takes them in order and
        skips each one that does not fit. The reply says which were used. The answer's room is
        `max_tokens` (or `max_completion_tokens`), or else 512 tokens, at most a quarter of the
        context.

        The server drafts from the context, so what the answer quotes from it comes faster. It needs
        no `prediction` for that.

        Costs `GET /health` and one request to count the prompt's tokens (about 1 ms for 1,000
        tokens). If the prompt is too long, costs one more for each document, one for the prompt
        without any, and at least one to be sure.

        Raises ValueError for an empty query or when no document fits, and what `chat` raises.
        """
        if not query.strip():
            raise ValueError("query must not be empty")
        documents = [context] if isinstance(context, str) else list(context)
        if not all(isinstance(document, str) for document in documents):
            raise TypeError("context must be a string or a list of strings")
        texts = {i: text.strip() for i, text in enumerate(documents) if text.strip()}
        used = self._fitting(query, texts, options)
        if texts and not used:
            raise ValueError("none of the documents fits into the server's context")
        messages = messages_of(query, [texts[i] for i in used])
        answer = self.chat(messages, **options)
        return PipelineReply(
            answer.text,
            finish_reason=answer.finish_reason,
            usage=answer.usage,
            raw=answer.raw,
            used=tuple(used),
            left_out=tuple(i for i in texts if i not in used),
        )

    def _fitting(self, query: str, texts: dict[int, str], options: Mapping[str, Any]) -> list[int]:
        """Returns the places of the documents that fit into the prompt together."""
        size = int(self.health_check()["context_size"])
        answer = options.get("max_completion_tokens") or options.get("max_tokens")

        def length(used: Sequence[int]) -> int:
            return self._count({"messages": messages_of(query, [texts[i] for i in used])})

        def cost(text: str) -> int:
            return self._count({"text": text})

        return fitting(texts, size - (answer or min(512, size // 4)), length, cost)

    def _count(self, body: Mapping[str, Any]) -> int:
        return int(self._whole("POST", "/tokenize", json.dumps(body).encode("ascii"))["count"])

    def _whole(self, method: str, path: str, payload: bytes | None = None) -> dict[str, Any]:
        """Returns the JSON of a whole answer."""
        with self._server.exchange(method, path, payload) as answer:
            body = self._server.read(answer)
            raise_for_status(answer, body)
        return parse_object(body, "the answer")


def _texts(
    found: Generator[dict[str, Any], None, None], text_of: Callable[[dict[str, Any]], str]
) -> Generator[str, None, None]:
    with contextlib.closing(found):
        for chunk in found:
            if text := text_of(chunk):
                yield text


def _chat(
    messages: Sequence[Mapping[str, Any]] | str, options: Mapping[str, Any], *, stream: bool
) -> bytes:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    prediction = options.get("prediction")
    if isinstance(prediction, str):
        options = {**options, "prediction": {"type": "content", "content": prediction}}
    return _payload({"messages": [dict(one) for one in messages]}, options, stream=stream)


def _respond(
    input: Sequence[Mapping[str, Any]] | str,
    instructions: str | None,
    previous_response_id: str | None,
    background: bool,
) -> dict[str, Any]:
    named = {"instructions": instructions, "previous_response_id": previous_response_id}
    body = {"input": input, **{name: text for name, text in named.items() if text is not None}}
    return body | ({"background": True} if background else {})


def _payload(body: Mapping[str, Any], options: Mapping[str, Any], *, stream: bool) -> bytes:
    if "stream" in options:
        raise ValueError("`stream` is not an option: there are methods that stream and others")
    whole = {**body, "stream": stream, **options}
    return json.dumps(whole, allow_nan=False).encode("ascii")
