"""Reads prompts that no template made: texts and token ids, as their caller wrote them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from ..protocol.commands import RawPrompt, Segment, Submit
from ..protocol.events import Refused, TooLong
from .reading import Reading, TextTooLongError
from .tokenizer import Tokenizer

MOST_TOKENS = 32_768
"""Maximum number of tokens of a request's prompts, where there are several."""
MOST_SCORED = 16_384
"""Maximum number of tokens whose log-probabilities are wanted, where there are several prompts or
choices. Each takes about 800 bytes until the answer is sent."""


class BadPromptError(Exception):
    """Raised for a prompt that cannot be answered, with the request's only event."""

    def __init__(self, event: TooLong | Refused) -> None:
        super().__init__(f"{event}")
        self.event = event


@dataclass(frozen=True, slots=True)
class ReadPrompt:
    """A prompt's token ids; `adds_bos` if the first of them is not in the request."""

    ids: list[int]
    adds_bos: bool


def read_prompts(
    tokenizer: Tokenizer, submit: Submit, most: int
) -> Generator[Reading, None, list[ReadPrompt]]:
    """Yields what is to be read, and returns the prompts, each with at most `most` tokens. Raises
    BadPromptError."""
    found: list[ReadPrompt] = []
    n_tokens = 0
    for raw in submit.prompts:
        _check_ids(tokenizer, submit, raw)
        segments = [Segment(raw.text, False)] if raw.text else []
        reading = Reading(tokenizer, segments, most=most, param=raw.place, markers=raw.markers)
        try:
            yield reading
        except TextTooLongError as error:
            raise BadPromptError(
                _too_long(submit, raw, error.least, at_least=not reading.at_end)
            ) from None
        prompt = _with_bos(tokenizer, raw.ids or reading.tokens)
        if not prompt.ids:
            message = (
                "The prompt is empty, and this model's prompts begin with no token of its own."
            )
            raise BadPromptError(Refused(submit.id, raw.place, message))
        if len(prompt.ids) > most:
            raise BadPromptError(_too_long(submit, raw, len(prompt.ids)))
        n_tokens += len(prompt.ids)
        found.append(prompt)
        if len(submit.prompts) > 1 and n_tokens > MOST_TOKENS:
            message = f"The prompts have more than {MOST_TOKENS} tokens together: send fewer."
            raise BadPromptError(Refused(submit.id, "prompt", message))
        if submit.scores and submit.n_choices > 1 and n_tokens * submit.n > MOST_SCORED:
            message = (
                f"These are more than {MOST_SCORED} prompt tokens with log-probabilities: send "
                "fewer prompts at once."
            )
            raise BadPromptError(Refused(submit.id, "prompt", message))
    return found


def _with_bos(tokenizer: Tokenizer, ids: list[int]) -> ReadPrompt:
    bos = tokenizer.bos
    if bos is None or ids[:1] == [bos]:
        return ReadPrompt(ids, adds_bos=False)
    return ReadPrompt([bos, *ids], adds_bos=True)


def _check_ids(tokenizer: Tokenizer, submit: Submit, raw: RawPrompt) -> None:
    for wrong in (min(raw.ids, default=0), max(raw.ids, default=0)):
        if not 0 <= wrong < tokenizer.n_vocab:
            message = f"{wrong} is not a token of this model, which has {tokenizer.n_vocab}."
            raise BadPromptError(Refused(submit.id, raw.place, message))


def _too_long(submit: Submit, raw: RawPrompt, n_tokens: int, at_least: bool = False) -> TooLong:
    return TooLong(
        id=submit.id,
        prompt_tokens=n_tokens,
        room=submit.room,
        at_least=at_least,
        place=raw.place,
    )
