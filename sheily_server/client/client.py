"""`LLMClient`: the server's routes as methods."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from .connections import Connections, await_last_chunk
from .errors import LLMProtocolError, StreamInterruptedError
from .pipeline import fitting, messages_of
from .replies import PipelineReply, Reply, delta, parse_object, raise_for_status, reply

HEALTH_TIMEOUT = 10.0
"""Most seconds that `/health` may take: it answers at once under any load."""


class LLMClient:
    """Calls one server. Safe to share between threads; each call has its own connection.

    `timeout` is the longest silence in seconds, not the length of a call: a stream goes on while
    tokens or keep-alive comments come. Nothing is ever retried. Proxies are not used.

    >>> with LLMClient() as client:  # doctest: +SKIP
    ...     print(client.chat("Hello").text)
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8005",
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
        payload = _payload(messages, options, stream=False)
        with self._server.exchange("POST", "/v1/chat/completions", payload) as answer:
            body = self._server.read(answer)
            raise_for_status(answer, body)
        return reply(parse_object(body, "the answer"))

    def stream(
        self, messages: Sequence[Mapping[str, Any]] | str, **options: Any
    ) -> Generator[str, None, None]:
        """Asks for an answer and yields its text in pieces, as they come.

        Sends the request when the first piece is asked for. Closing the generator closes the
        connection, and the server stops there. With `n` above 1, yields the first choice alone.
        Raises what `chat` raises, and StreamInterruptedError.
        """
        return self._deltas(_payload(messages, options, stream=True))

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
        payload = json.dumps(body).encode("ascii")
        with self._server.exchange("POST", "/tokenize", payload) as answer:
            content = self._server.read(answer)
            raise_for_status(answer, content)
        return int(parse_object(content, "the count of tokens")["count"])

    def _deltas(self, payload: bytes) -> Generator[str, None, None]:
        with self._server.exchange("POST", "/v1/chat/completions", payload) as answer:
            kind = answer.headers.get_content_type()
            if answer.status != 200 or kind != "text/event-stream":
                raise_for_status(answer, self._server.read(answer))
                raise LLMProtocolError(f"{self._server.server()} sent {kind} instead of a stream")
            for data in self._server.events(answer):
                if data == "[DONE]":
                    await_last_chunk(answer)
                    return
                text = delta(parse_object(data, "an event of the stream"))
                if text:
                    yield text
        raise StreamInterruptedError(f"{self._server.server()} ended the stream before its end")


def _payload(
    messages: Sequence[Mapping[str, Any]] | str, options: Mapping[str, Any], *, stream: bool
) -> bytes:
    if "stream" in options:
        raise ValueError("`stream` is not an option: call chat() or stream()")
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    prediction = options.get("prediction")
    if isinstance(prediction, str):
        options = {**options, "prediction": {"type": "content", "content": prediction}}
    body = {"messages": [dict(message) for message in messages], "stream": stream, **options}
    return json.dumps(body, allow_nan=False).encode("ascii")
