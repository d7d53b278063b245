"""Grammars, expressions and choices of callers as they are written for llguidance: bounds, errors
with their lines, and which parts are one piece for the lexer. tests/native has what they allow."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheily_server.chat.grammars import read
from sheily_server.chat.grammars.patterns import canonical
from sheily_server.chat.grammars.tree import MOST_LEVELS, MOST_PARTS, GrammarError


def lines(text: str) -> list[str]:
    return read.grammar(text)[1].split("\n")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no rule 'start'"),
        ('other: "a"', "there is no rule 'start'"),
        ('a ::= "x"', "there is no rule 'root'"),
        ("start: x", "there is no rule 'x'"),
        ("root ::= x", "there is no rule 'x'"),
        ('start: "a"\nstart: "b"', "line 2: there are two rules 'start'"),
        ('root ::= "a"\n\nroot ::= "b"', "line 3: there are two rules 'root'"),
        ('root ::= "a', "line 1: '\"a' cannot be read"),
        ('root ::= ("a"', "line 1: a bracket is not closed"),
        ('root ::= "a")', "line 1: a bracket is closed that was not opened"),
        ('root ::= "a"\n"b" ::=', "line 2: '::=' has no place here"),
        ("root ::= *", "line 1: '*' has no place here"),
        ("root ::= [b-a]", "line 1: b-a is not a range"),
        ('root ::= "a"{3,2}', "line 1: {3,2} is not a range"),
        (r'root ::= "\d"', r"line 1: \d is not an escape"),
        (r'root ::= "\x4"', r"line 1: \x needs 2 hexadecimal digits"),
        ('root ::= "a"?*+?*', "line 1: there are too many repetitions of one another"),
        ('start: "a"\n"b"', "line 2: '\"b\"' begins no rule"),
        ('start: ("a"', "line 1: ')' is missing"),
        ('start: "a")', "line 1: ')' has no place here"),
        (
            'Start: "a"',
            "line 1: 'Start' is not a name: rules are in lower case, terminals in upper case",
        ),
        ('start: X\nX: y\ny: "a"', "line 2: a terminal cannot have the rule 'y'"),
        ('start: "ab".."c"', "line 1: a range goes from one character to a later one"),
        ("start: /a(?=b)/", "line 1: the group (?=b… cannot be followed"),
        ("%import common.NAME\nstart: NAME", "line 1: common has no 'NAME' here"),
        ("start:", None),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, problem: str | None) -> None:
    if problem is None:
        assert lines(text) == ['x_start: ""']
        return
    with pytest.raises(GrammarError) as caught:
        read.grammar(text)
    assert str(caught.value).startswith(problem)


def test_bounds_of_grammars() -> None:
    nested = "(" * MOST_LEVELS + '"a"' + ")" * MOST_LEVELS
    for notation in ("start: ", "root ::= "):
        read.grammar(notation + nested)
        with pytest.raises(GrammarError, match="levels"):
            read.grammar(f"{notation}({nested})")
        read.grammar(notation + '"a" ' * (MOST_PARTS - 1))
        with pytest.raises(GrammarError, match="parts"):
            read.grammar(notation + '"a" ' * MOST_PARTS)
        begin, end = f'{notation}"', '"'
        longest = begin + "a" * (read.MAX_BYTES - len(begin) - 1) + end
        read.grammar(longest)
        with pytest.raises(GrammarError, match="bytes"):
            read.grammar(longest + " ")
    with pytest.raises(GrammarError, match="levels"):
        read.grammar("start: X\nX: " + "~" * 1000 + "/a/")


def test_bounds_of_choices_and_expressions() -> None:
    read.choice([str(i) for i in range(read.MAX_CHOICES)])
    read.choice(["a" * read.MAX_BYTES])
    read.regex("a" * read.MAX_BYTES)
    for texts in ([], [str(i) for i in range(read.MAX_CHOICES + 1)], ["é" * read.MAX_BYTES]):
        with pytest.raises(GrammarError):
            read.choice(texts)
    with pytest.raises(GrammarError, match="bytes"):
        read.regex("a" * (read.MAX_BYTES + 1))


def test_what_cannot_be_more_of_itself_is_one_piece() -> None:
    found = lines(
        'root ::= item ("," item)* | "(" root ")"\nitem ::= [a-z]+ digits?\ndigits ::= [0-9]+'
    )
    assert found[0] == 'x_root: X_ITEM_ X_ROOT_2 | "(" x_root ")"'
    assert found[-1] == 'X_ROOT_2: ("," X_ITEM_)*'


@pytest.mark.parametrize(
    "text",
    [
        'root ::= word "ing" | "(" root ")"\nword ::= [a-z]+',
        'root ::= word | "ab" "(" root ")"\nword ::= [a-z]+',
        'root ::= word root | "."\nword ::= [a-z]+',
        'root ::= word? "ab" root?\nword ::= [a-z]+',
        'root ::= "(" root ")" | word tail\ntail ::= "" | "x"\nword ::= [a-z]+',
    ],
)
def test_what_could_be_more_of_itself_is_read_sign_by_sign(text: str) -> None:
    assert "x_word: /[\\x{61}-\\x{7A}]/+" in lines(text)
    assert not any(line.startswith("X_WORD") for line in lines(text))


def test_a_grammar_without_recursion_is_one_piece() -> None:
    assert lines('root ::= word "ing"\nword ::= [a-z]+')[0] == "x_root: X_ROOT_"


def test_names_that_resemble_each_other_stay_apart() -> None:
    found = lines('root ::= a-b root a_b | "w"\na-b ::= "x" root\na_b ::= "y" root | "z"')
    names = [line.split(":")[0] for line in found]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ('a/b"', r"a\x2Fb\x22"),
        (r"\/\"", r"\x2F\x22"),
        ("[]/[&~^]", r"[\]\x2F\[\&\~^]"),
        ("[^]a]", r"[^\]a]"),
        ("\n\\\n\x00", r"\n\n\x{0}"),
        (r"\\/", r"\\\x2F"),
    ],
)
def test_expressions_are_written_without_what_ends_them(given: str, written: str) -> None:
    assert canonical(given) == written


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from('ab/"\\[]()?:*^|\n\t\x00é<>%{}'), max_size=30))
def test_no_expression_can_end_early(pattern: str) -> None:
    try:
        found = canonical(pattern)
    except GrammarError:
        return
    assert re.fullmatch(r"(?:\\[^/\"]|[^/\"\\])*", found)
    assert found.isprintable()


# What any notation may have, and what would mean something to llguidance.
WORDS = (
    'start root x X : ::= | ( ) [ ] { } * + ? ~ & -> .. , . "a" " /a/ / \\ 2 # // %ignore %import '
    "%json %llguidance {} <|eot_id|> <[1]> @g lazy"
)
ANYTHING = st.lists(st.sampled_from([*WORDS.split(), "\n"]), max_size=25).map(" ".join)
BEGINNINGS = st.sampled_from(["", "start: ", "root ::= ", 'start: "a"\n', "root ::= x\nx ::= "])
SAFE = re.compile(
    r'(?:"(?:\\.|[^"\\])*"i?|/(?:\\.|[^/\\])*/[is]*|x_\w+|X_\w+|%ignore|[0-9]+|[:|()*+?&~{},\s])*'
)


@settings(max_examples=500, deadline=None)
@given(
    ANYTHING, st.sampled_from(["", "start: ", "root ::= ", 'start: "a"\n', "root ::= x\nx ::= "])
)
def test_whatever_is_read_is_written_with_nothing_but_texts_and_rules(
    text: str, begin: str
) -> None:
    try:
        term, written = read.grammar(begin + text)
    except GrammarError:
        return
    assert re.fullmatch(r"[xX]_\w+", term)
    assert SAFE.fullmatch(written), written
