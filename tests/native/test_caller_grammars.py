"""Grammars, expressions and choices of callers, through admission with its real compilers and the
vocabulary of Llama 3: what they allow, and that they reach no control token."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from random import Random

import pytest

from sheily_native import Model
from sheily_server.chat.grammar import (
    AnswerChoice,
    AnswerForm,
    AnswerRegex,
    AnswerRules,
    answer_grammar,
)
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.errors import InvalidRequestError
from sheily_server.protocol.commands import Grammar
from sheily_server.protocol.events import Admitted, Refused
from sheily_server.templates.base import Function, Offer
from sheily_server.templates.llama3 import TEMPLATE
from tests.support import models
from tests.support.admission_desk import PARALLEL, Desk

EOT = "<|eot_id|>"
JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]+)? ws
ws     ::= | " " | "\n" [ \t]{0,20}  # a comment
"""
SQL = """
root ::= "SELECT " columns " FROM " table
columns ::= column (", " column)* | "*"
column ::= [a-z]+
table ::= "t" | "u"
"""
SUM = """
?start: sum
?sum: product | sum "+" product -> add   // a comment
?product: atom
    | product "*" atom
atom: NUMBER | "(" sum ")" | NAME
NAME: /[a-z]+/ & ~"if"
%import common.NUMBER
%import common (WS_INLINE)
%ignore WS_INLINE
"""


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with Model(models.VOCABULARY, vocab_only=True) as model:
        desk = Desk(Tokenizer(model))
        yield desk
        desk.trials.close()


def grammar_of(form: AnswerForm, *functions: Function) -> Grammar:
    found = answer_grammar(form, Offer(functions), TEMPLATE.calls if functions else None, PARALLEL)
    assert found is not None
    return found


def rules(text: str) -> Grammar:
    return grammar_of(AnswerRules(text, "grammar"))


def regex(pattern: str) -> Grammar:
    return grammar_of(AnswerRegex(pattern, "guided_regex"))


def admitted(desk: Desk, grammar: Grammar) -> Grammar:
    event, job = desk.ask(grammar)
    assert isinstance(event, Admitted), (event, grammar.lark)
    assert job is not None
    assert job.submit.grammar is not None
    return job.submit.grammar


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        (JSON, ['{"a": [1.5e3, "b\\u00e9\\n", null]}', '{ "a":{}}', "{}"], ["[]", "{a}", '{"a"}']),
        (SQL, ["SELECT a, b FROM t", "SELECT * FROM u"], ["SELECT  FROM t", "SELECT a FROM x"]),
        ('root ::= "a" root | "b"', ["b", "aab"], ["a", "ba", ""]),
        ('root ::= [^a-c]+ "." .', ["xé..\n", "d.a"], ["a.b", "d."]),
        (r'root ::= "\x41\u00e9\U0001F600" [\]\-x]', ["Aé😀]", "Aé😀-"], ["Aé😀y"]),
        ('root ::= word "ing"\nword ::= [a-z]+', ["walking", "singing"], ["ing", "walk"]),
        ('root ::= root "x" | [a-z]{2} "ing"', ["aaing", "bbingxx"], ["aing"]),
        ('root ::= pair*\npair ::= "[" ws "]" | "[" ws root "]"\nws ::= " "*', ["[ ][]", "[ [ ]]"],
         ["[", "]"]),
        ('root ::= "a"? "b"{2} "c"{1,} "d"{0}', ["abbc", "bbccc"], ["abc", "bbcd"]),
        ("root ::= a-b a_b\na-b ::= \"x\"\na_b ::= \"y\"", ["xy"], ["x", "yx"]),
        ('root ::= ("a" | ) "b"', ["b", "ab"], ["a"]),
        (SUM, ["1 + 2*(x+3.5)", "iff"], ["if", "1+", "()"]),
        ('start: ["-"] "a".."c" "x"i~2..3 "yes"', ["-axXyes", "bxxxyes"], ["dxxyes", "axyes"]),
        ("start: A B?\nA: /[a-z]+/s\nB: \"\\n\"", ["abc", "abc\n"], ["", "\n"]),
        ('start: (\n"a"\n| "b"\n)\n  | "c"', ["a", "b", "c"], ["ab"]),
        ('%llguidance {}\nstart: x{2,}\nx: "é" | /\\//', ["éé", "é//"], ["é"]),
    ],
)  # fmt: skip
def test_what_grammars_allow(desk: Desk, grammar: str, good: list[str], bad: list[str]) -> None:
    found = admitted(desk, rules(grammar))
    assert [text for text in good if not desk.allows(found, text)] == []
    assert [text for text in bad if desk.allows(found, text)] == []


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"\d{3}-[A-Z]+", ["123-AB"], ["12-AB", "123-"]),
        (r"^(yes|no)$", ["yes", "no"], ["yesno", ""]),
        (r"^a$|^b$", ["a", "b"], ["ab"]),
        (r'https?://[^/"]+/"', ['http://a.b/"'], ['http:///"']),
        (r"[[\]&&]+", ["[]&"], ["a"]),
        (r"(?P<year>[0-9]{4})(?:-x)?(?i:Z)", ["2024z", "2024-xZ"], ["24Z"]),
        ("a\tb\nc\u2028", ["a\tb\nc\u2028"], ["abc"]),
        (r"\x41[\u00e9-\u00ff]", ["A\u00ea"], ["Ae"]),
        ("", [""], ["a"]),
    ],
)
def test_what_expressions_allow(desk: Desk, pattern: str, good: list[str], bad: list[str]) -> None:
    found = admitted(desk, regex(pattern))
    assert [text for text in good if not desk.allows(found, text)] == []
    assert [text for text in bad if desk.allows(found, text)] == []


def test_a_choice_allows_its_texts(desk: Desk) -> None:
    texts = ["a", "ab", 'say "no"', "line\nend", "é\x7f\\", EOT, "%json {}", "/x/", "a"]
    found = admitted(desk, grammar_of(AnswerChoice(texts, "guided_choice")))
    assert [text for text in texts if not desk.allows(found, text)] == []
    assert not any(desk.allows(found, text) for text in ("", "abc", "b"))


@pytest.mark.parametrize(
    "form",
    [
        AnswerRules(f'root ::= "{EOT}" "x"', "grammar"),
        AnswerRules(f'root ::= "{EOT}" "x" | "y" root', "grammar"),
        AnswerRules(f'start: "{EOT}" "x"', "grammar"),
        AnswerRules(f'start: X "x"\nX: "{EOT}"i', "grammar"),
        AnswerRules(r"start: /<\|eot_id\|>x/", "grammar"),
        AnswerRules(r'start: "\xff" /<.eot_id..x/', "grammar"),
        AnswerRegex(r"<\|(eot_id|python_tag)\|>x", "guided_regex"),
        AnswerRegex(r"\xff?<\|start_header_id\|>", "guided_regex"),
        AnswerChoice([EOT, "<|begin_of_text|>", "<|end_of_text|> "], "guided_choice"),
    ],
    ids=str,
)
def test_the_text_of_a_control_token_is_text(desk: Desk, form: AnswerForm) -> None:
    found = admitted(desk, grammar_of(form))
    for seed in range(5):
        text, control = desk.walk(found, Random(seed))
        assert "<" in text.decode() or "y" in text.decode()
        assert set(control) <= set(desk.tokenizer.ends)


@pytest.mark.parametrize(
    "text",
    [
        f"start: {EOT}",
        "start: <[128009]>",
        "start: <[128000-128255]>",
        "start: <[*]>",
        "start: <[^1]>",
        f'start: "a" ({EOT} | "b")',
        f"start: X\nX: {EOT}",
        "start: @other",
        "start: @0",
        'start: %json {"type": "string"}',
        'start: %regex {"substring_chars": "ab"}',
        'start: %lark { start: <|eot_id|> }',
        '%llguidance {"allow_invalid_utf8": true}\nstart: "a"',
        'start[stop=""]: /.*/',
        f'start[stop={EOT}]: /.*/',
        'start: x\nx[suffix="b"]: /.*/',
        'start: x\nx[lazy]: /.*b/',
        'start: x\nx[max_tokens=5]: /.*/',
        'start: x\nx[capture]: "a"',
        'start: x::0\nx::_: "a" %if is_zero(_)',
        'start: x{"a"}\nx{y}: y',
        '%declare X\nstart: X',
        '%override start: "a"\nstart: "b"',
        "%import other.X\nstart: X",
        f"root ::= {EOT}",
        "root ::= <[128009]>",
        "root ::= !<[128009]>",
        f'root ::= "a" {EOT}?',
        'root ::= %json {}',
        r"start: /(?-u:\xff)<.eot_id.>/",
        r"start: /(?u)a/",
        r"start: /a(?=b)/",
        "start: /a/m",
        "start: /a/x",
        r"root ::= [\x00-\U00110000]",
        r'root ::= "\ud800"',
        'start: ~"a"',
        'start: "a" & "b"',
    ],
)  # fmt: skip
def test_what_could_reach_further_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        rules(text)
    assert caught.value.param == "grammar"
    assert caught.value.message.startswith("grammar cannot be honoured: line ")


@pytest.mark.parametrize(
    "text",
    [
        "start: X\nX: ~/a/",
        'start: X\nX: ~(/a/ | "b")+ & ~~/[^x]*/',
        "start: X y\nX: /(.|\\n)*/ & ~/(.|\\n)*<(.|\\n)*/\ny: /./s*",
        "root ::= .*",
        "root ::= [^a] [^b]?",
        "root ::= [^\\x00-\\x7f]+",
        "start: /[\\W\\s\\D]*/",
    ],
)
def test_masks_have_no_control_tokens_but_those_that_end(desk: Desk, text: str) -> None:
    found = admitted(desk, rules(text))
    seen: set[int] = set()
    for seed in range(8):
        answer, control = desk.walk(found, Random(seed))
        assert set(control) <= set(desk.tokenizer.ends)
        assert b"\xff" not in answer
        seen |= set(control)
    assert seen  # else nothing was looked for


@pytest.mark.parametrize(
    "text",
    [
        'root ::= "a" root',
        "root ::= root",
        'root ::= a b\na ::= "x"\nb ::= b "y"',
        "root ::= []",
        'start: a\na: "x" a | b\nb: a',
    ],
)
def test_what_no_answer_can_end_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="no answer can follow it to an end"):
        rules(text)


def test_what_no_answer_can_end_is_left_out(desk: Desk) -> None:
    found = admitted(desk, rules('root ::= "a" | "b" loop | "c" loop?\nloop ::= "x" loop'))
    assert [text for text in ("a", "b", "c", "bx", "cx") if desk.allows(found, text)] == ["a", "c"]
    for seed in range(5):
        assert desk.walk(found, Random(seed))[0] in (b"a", b"c")


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (AnswerRegex("x{2000}" * 140, "p"), "too complex|limit"),
        (AnswerRegex(r"a\1", "p"), "backreference|escape"),
        (AnswerRegex(r"\bword", "p"), "not supported"),
        (AnswerRegex(r"(unclosed", "p"), "unclosed"),
        (AnswerRules("start: X\nX: /a/ & /b/", "p"), "no answer can follow it|matches nothing"),
        (AnswerRules("start: X\nX: Y | /b/\nY: X", "p"), "circular"),
    ],
)  # fmt: skip
def test_the_compilers_refuse_by_the_field(desk: Desk, form: AnswerForm, words: str) -> None:
    event, _ = desk.ask(grammar_of(form))
    assert isinstance(event, Refused), event
    assert event.param == "p"
    assert re.search(words, event.message), event.message


WEATHER = Function("weather", parameters={"type": "object"}, place="tools[0].function.parameters")
CALL = '{"name": "weather", "parameters": {"city": "Vigo"}}'


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (AnswerRules(JSON, "grammar"), '{"a": 1}'),
        (AnswerRules(SQL, "grammar"), "SELECT a FROM t"),
        (AnswerRegex("[a-z]+", "p"), "river"),
        (AnswerChoice(["yes", "no"], "p"), "no"),
    ],
)
def test_beside_functions_the_answer_may_be_a_call(desk: Desk, form: AnswerForm, text: str) -> None:
    found = admitted(desk, grammar_of(form, WEATHER))
    assert desk.allows(found, text)
    assert desk.allows(found, CALL)
    assert not desk.allows(found, "Hello!")


# What random grammars mean, computed without any parser of this project.


def random_grammar(random: Random) -> dict[str, list[list[str]]]:
    """Rules as options of signs: a lower-case letter stands for itself, with + for once or more;
    others name rules."""
    names = ["root", "A", "B"]
    signs = ["a", "b", "ab", "a+", "b+", *names[1:]]

    def option() -> list[str]:
        return [random.choice(signs) for _ in range(random.choice((0, 1, 1, 2, 3)))]

    return {name: [option() for _ in range(random.choice((1, 2, 3)))] for name in names}


def gbnf_of(grammar: dict[str, list[list[str]]]) -> str:
    def sign(text: str) -> str:
        if not text[0].islower():
            return text
        return f"[{text[0]}]+" if text.endswith("+") else f'"{text}"'

    return "\n".join(
        f"{name} ::= " + " | ".join(" ".join(map(sign, option)) for option in options)
        for name, options in grammar.items()
    )


def language(grammar: dict[str, list[list[str]]], longest: int) -> set[str]:
    """All texts of up to so many characters."""
    known: dict[str, set[str]] = {name: set() for name in grammar}

    def of_sign(sign: str) -> set[str]:
        if sign.endswith("+"):
            return {sign[0] * n for n in range(1, longest + 1)}
        return known[sign] if sign in grammar else {sign}

    def joined(option: list[str]) -> set[str]:
        return functools.reduce(
            lambda left, sign: {
                a + b for a in left for b in of_sign(sign) if len(a) + len(b) <= longest
            },
            option,
            {""},
        )

    while True:
        before = {name: len(texts) for name, texts in known.items()}
        for name, options in grammar.items():
            known[name] = set().union(known[name], *map(joined, options))
        if before == {name: len(texts) for name, texts in known.items()}:
            return known["root"]


def ends(grammar: dict[str, list[list[str]]]) -> bool:
    """Whether there is any text at all, however long."""
    known: set[str] = set()
    for _ in grammar:
        for name, options in grammar.items():
            if any(all(sign in known or sign not in grammar for sign in each) for each in options):
                known.add(name)
    return "root" in known


@pytest.mark.parametrize("seed", range(60))
def test_random_grammars_allow_nothing_else(desk: Desk, seed: int) -> None:
    grammar = random_grammar(Random(seed))
    meant = language(grammar, 6)
    if not ends(grammar):
        with pytest.raises(InvalidRequestError, match="no answer can follow it"):
            rules(gbnf_of(grammar))
        return
    found = rules(gbnf_of(grammar))
    texts = [""]
    for text in texts:
        if len(text) < 4:
            texts += [text + "a", text + "b"]
    allowed = {text for text in texts if desk.allows(found, text)}
    assert allowed <= meant
    assert {text for text in meant if len(text) <= 4} - allowed == set()
