"""Answers that follow grammars, expressions and choices, biases by text, and the text of a prompt,
with the real engine. The tiny Llama 3 has random weights: only the grammar shapes its answers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.e2e.asking import assert_alive, complete, post, stream, tokens_of
from tests.support.real_server import RealServer

EOT = "<|eot_id|>"
SUM = """
root ::= term (" + " term){2} | "(" root ")"
term ::= [0-9]{1,3} | "x"
"""
LIST = """
start: "[" ITEM ("," ITEM)~2 "]"
ITEM: "a".."c" | DIGIT
%import common.DIGIT
"""


@pytest.mark.parametrize("field", ["grammar", "guided_grammar", "structured_outputs"])
@pytest.mark.parametrize(
    ("grammar", "expected"),
    [
        (SUM, r"\(*((\d{1,3}|x) \+ ){2}(\d{1,3}|x)\)*"),
        (LIST, r"\[([a-c\d],){2}[a-c\d]\]"),
        ('root ::= "<|eot_id|>" [a-z]{3} "<|end|>"', r"<\|eot_id\|>[a-z]{3}<\|end\|>"),
    ],
    ids=["gbnf", "lark", "markers"],
)  # fmt: skip
def test_answers_follow_grammars(
    llama3_server: RealServer, field: str, grammar: str, expected: str
) -> None:
    given: Any = {"grammar": grammar} if field == "structured_outputs" else grammar
    fields: dict[str, Any] = {field: given}
    for seed in range(3):
        answer = complete(llama3_server, max_tokens=300, seed=seed, **fields)
        if answer.choice["finish_reason"] == "stop":
            assert re.fullmatch(expected, answer.text), answer.text
        else:
            assert answer.text.startswith("(" * 50)  # it opened brackets to the end


def test_answers_follow_expressions(llama3_server: RealServer) -> None:
    for seed in range(3):
        pattern = r"^[A-Z]{3}-\d{2,4}/(?:yes|no)$"
        answer = complete(llama3_server, guided_regex=pattern, seed=seed, max_tokens=100)
        assert answer.choice["finish_reason"] == "stop"
        assert re.fullmatch(pattern, answer.text), answer.text


def test_answers_are_one_of_a_choice(llama3_server: RealServer) -> None:
    texts = ["yes", "no", EOT, 'a "quote"\n', "yesterday"]
    seen = set()
    for seed in range(8):
        answer = complete(llama3_server, guided_choice=texts, seed=seed, max_tokens=50)
        assert answer.choice["finish_reason"] == "stop"
        seen.add(answer.text)
    assert seen <= set(texts)
    assert len(seen) > 1


def test_the_text_of_a_control_token_is_made_of_other_tokens(llama3_server: RealServer) -> None:
    """Of the control token, the answer would have no text at all."""
    answer = complete(llama3_server, guided_choice=[EOT], logprobs=True, max_tokens=50)
    tokens = [each["token"] for each in answer.choice["logprobs"]["content"]]
    assert answer.text == EOT
    assert len([token for token in tokens if token != EOT]) > 1
    assert "".join(token for token in tokens if token != EOT) == EOT


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"grammar": f"root ::= {EOT}"}, "grammar"),
        ({"guided_grammar": "start: <[128009]>"}, "guided_grammar"),
        ({"guided_regex": "x{2000}" * 140}, "guided_regex"),
        ({"guided_regex": r"(a)\1"}, "guided_regex"),
        ({"grammar": "start: X\nX: /a/ & /b/"}, "grammar"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    llama3_server: RealServer, fields: dict[str, Any], param: str
) -> None:
    answer = complete(llama3_server, **fields)
    assert (answer.status, answer.error["param"]) == (400, param)
    assert_alive(llama3_server)


def test_a_schema_of_json_object(llama3_server: RealServer) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"enum": [1, 2]}},
        "required": ["n"],
        "additionalProperties": False,
    }
    for fields in (
        {"response_format": {"type": "json_object", "schema": schema}},
        {"json_schema": schema},
        {"guided_json": json.dumps(schema)},
        {"structured_outputs": {"json": schema}},
    ):
        assert json.loads(complete(llama3_server, max_tokens=50, **fields).text)["n"] in (1, 2)


def test_forms_in_streams_and_raw_prompts(llama3_server: RealServer) -> None:
    chunks = stream(llama3_server, guided_choice=["red", "green"], max_tokens=20)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) in ("red", "green")
    body = {"prompt": "x", "guided_regex": "(ab){2}", "max_tokens": 20}
    assert post(llama3_server, "/v1/completions", body).body["choices"][0]["text"] == "abab"


def test_a_bias_by_text_is_one_by_its_tokens(llama3_server: RealServer) -> None:
    fields: dict[str, Any] = {"max_tokens": 3, "temperature": 0}
    assert len(tokens_of(llama3_server, "river")) == 1
    for bias in ({"river": 100}, [["river", 100]], [[tokens_of(llama3_server, "river")[0], 100]]):
        assert complete(llama3_server, logit_bias=bias, **fields).text == "riverriverriver"
    never = [["river", 100], ["sea", 99], ["river", False]]
    assert complete(llama3_server, logit_bias=never, **fields).text == "seaseasea"
    several = complete(llama3_server, logit_bias={" rivers and seas": 100}, max_tokens=8, seed=1)
    pieces = post(llama3_server, "/tokenize", {"text": " rivers and seas"}).body["pieces"]
    assert re.fullmatch("|".join(map(re.escape, pieces)).join(("(", ")+")), several.text)
    # The text of a control token is tokenized as text: the answer does not end.
    ending = complete(llama3_server, logit_bias=[[EOT, 100]], max_tokens=5, seed=1)
    assert ending.choice["finish_reason"] == "length"


def test_the_text_of_a_prompt_has_its_tokens(
    llama3_server: RealServer, smollm2_server: RealServer
) -> None:
    talk = [{"role": "system", "content": "S é"}, {"role": "user", "content": "hi"}]
    for server in (llama3_server, smollm2_server):
        prompt = post(server, "/apply-template", {"messages": talk}).body["prompt"]
        tokens = post(server, "/tokenize", {"messages": talk}).body["tokens"]
        body = {"prompt": prompt, "parse_special": True, "max_tokens": 0}
        answer = post(server, "/v1/completions", body).body
        assert answer["usage"]["prompt_tokens"] == len(tokens)
