"""Decodes OpenAI's completion requests, checks them, and converts them to a Generation."""

from __future__ import annotations

import dataclasses

import msgspec

from ...chat.generation import Generation
from ...errors import InvalidRequestError
from ...protocol.commands import RawPrompt
from ...templates.base import Offer
from .. import body
from ..openai_chat.decode import asked, check_options, check_stream_options
from ..openai_chat.neutral import EFFECTLESS, NEUTRAL
from . import protocol as wire

READER = body.Reader(wire.CompletionRequest, NEUTRAL, EFFECTLESS)


def read(data: bytes, strict: bool = False) -> body.Read[wire.CompletionRequest]:
    """Decodes the body of POST /v1/completions. Raises InvalidRequestError."""
    found = READER.read(data, strict)
    request = found.request
    # 0 tokens are too few for the chat routes only.
    check_options(
        msgspec.structs.replace(request, max_tokens=None) if request.max_tokens == 0 else request
    )
    _check_ids(request.prompt)
    if request.suffix:
        raise InvalidRequestError(
            "'suffix' is not supported by this server.", "suffix", "unsupported_parameter"
        )
    if request.truncation == "trim":
        raise InvalidRequestError("A prompt has no messages to leave out.", "truncation")
    check_stream_options(request)
    best_of, n = request.best_of, request.n or 1
    if best_of is not None and best_of < n:
        raise InvalidRequestError(f"best_of is {best_of}, which is less than n, {n}.", "best_of")
    if best_of is not None and best_of > n and request.stream:
        raise InvalidRequestError(
            "The best answers are known at the end, so best_of cannot be more than n in a stream.",
            "best_of",
        )
    return found


def generation(found: body.Read[wire.CompletionRequest]) -> Generation:
    """Returns what a body asks for. Raises InvalidRequestError."""
    request = found.request
    best_of = request.best_of or request.n or 1
    chooses = best_of > (request.n or 1)
    made = asked(
        request,
        (),
        Offer(),
        history=None,
        ignored=found.ignored,
        n=best_of,
        top_logprobs=0 if chooses and request.logprobs is None else request.logprobs,
    )
    no_limit = request.completion_limit()[0] is None and not _says_a_limit(request)
    return dataclasses.replace(
        made,
        prompts=prompts_of(request),
        echo=bool(request.echo),
        scores=bool(request.echo) and request.logprobs is not None,
        max_tokens=wire.MAX_TOKENS if no_limit else made.max_tokens,
    )


def prompts_of(request: wire.CompletionRequest) -> list[RawPrompt]:
    """Returns the prompts of a body. Raises InvalidRequestError."""
    markers = bool(request.parse_special)
    prompt = request.prompt
    if isinstance(prompt, str):
        return [RawPrompt(text=prompt, markers=markers)]
    if not prompt:
        raise InvalidRequestError("The prompt is an empty list.", "prompt")
    ids = [token for token in prompt if isinstance(token, int)]
    if len(ids) == len(prompt):
        return [_of_ids(ids, "prompt")]
    if len(prompt) > wire.MAX_PROMPTS:
        raise InvalidRequestError(
            f"There are {len(prompt)} prompts; at most {wire.MAX_PROMPTS} are taken.", "prompt"
        )
    found = []
    for i, one in enumerate(prompt):
        if isinstance(one, int) or type(one) is not type(prompt[0]):
            raise InvalidRequestError(
                "The prompts must be all texts or all lists of token ids.",
                f"prompt[{i}]",
                "invalid_type",
            )
        place = f"prompt[{i}]"
        if isinstance(one, str):
            found.append(RawPrompt(text=one, markers=markers, place=place))
        else:
            found.append(_of_ids(one, place))
    return found


def _check_ids(prompt: wire.Prompt) -> None:
    if isinstance(prompt, str):
        return
    n_ids = sum(len(one) if isinstance(one, list) else isinstance(one, int) for one in prompt)
    if n_ids > wire.MAX_IDS:
        raise InvalidRequestError(
            f"There are {n_ids} token ids; at most {wire.MAX_IDS} are taken.", "prompt"
        )


def _of_ids(ids: list[int], place: str) -> RawPrompt:
    if not ids:
        raise InvalidRequestError("The prompt is an empty list.", place)
    for wrong in (min(ids), max(ids)):
        if not 0 <= wrong < 2**31:
            raise InvalidRequestError(f"{wrong} is not a token id.", place)
    return RawPrompt(ids=ids, place=place)


def _says_a_limit(request: wire.CompletionRequest) -> bool:
    """Whether the request says how long an answer may be, be it with -1."""
    return any(
        value is not None
        for value in (request.max_tokens, request.max_completion_tokens, request.n_predict)
    )
