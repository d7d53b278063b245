"""The two READMEs say the same, and what they name exists: settings, options, routes, packages."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

import sheily_native.tune.__main__ as tune
import sheily_server.client as client
from sheily_native.tune import plan
from sheily_server.backend.supervisor import Supervisor
from sheily_server.config import Config, variable
from sheily_server.web.app import App
from tests.support.models import ROOT

ENGLISH, SPANISH = "README.md", "README.es.md"
BOTH = pytest.mark.parametrize("name", [ENGLISH, SPANISH])

# Sections by their place: the title's is 0.
CONFIGURATION, TUNING, ENDPOINTS, DEPENDENCIES = 3, 5, 7, 12
# Sections whose tables have names, and no words, in the first column.
NAMES_FIRST = (CONFIGURATION, ENDPOINTS)

# A fence with its language; a table row; a span of code; a target of a link; a number.
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
CELL = re.compile(r"(?<!\\)\|")
SPAN = re.compile(r"`[^`]+`")
QUOTED = re.compile(r'"[^"\n]+"')
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?!\w)")


@dataclass(frozen=True)
class Section:
    """A heading with what is below it; `level` counts its number signs."""

    level: int
    title: str
    body: str

    @property
    def blocks(self) -> list[tuple[str, str]]:
        """Language and text of each code block."""
        return FENCE.findall(self.body)

    @property
    def prose(self) -> str:
        """The body without code blocks and tables."""
        return ROW.sub("", FENCE.sub("", self.body))

    @property
    def rows(self) -> list[list[str]]:
        """The cells of every table row, headers and rules among them."""
        rows = ROW.findall(FENCE.sub("", self.body))
        return [[cell.strip() for cell in CELL.split(row)[1:-1]] for row in rows]

    @property
    def entries(self) -> list[list[str]]:
        """The rows without headers and the rules below them."""
        rules = {i for i, row in enumerate(self.rows) if set("".join(row)) == {"-"}}
        headers = {i - 1 for i in rules}
        return [row for i, row in enumerate(self.rows) if i not in rules | headers]


def sections(name: str) -> list[Section]:
    text = (ROOT / name).read_text(encoding="utf-8")
    found: list[Section] = []
    for part in re.split(r"(?=^#+ )", _comments_hidden(text), flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        marks, _, title = heading.partition(" ")
        found.append(Section(len(marks), title, body.replace("\0", "#")))
    return found


def _comments_hidden(text: str) -> str:
    """A comment at the beginning of a line of code is no heading."""
    return FENCE.sub(lambda block: block[0].replace("#", "\0"), text)


READMES = {name: sections(name) for name in (ENGLISH, SPANISH)}


def pairs() -> Iterator[tuple[Section, Section]]:
    return zip(READMES[ENGLISH], READMES[SPANISH], strict=True)


def code(block: str) -> list[str]:
    """The lines of a code block without comments."""
    lines = [re.sub(r"(^|\s+)#.*", "", line) for line in block.splitlines()]
    return [line for line in lines if line]


def spans(text: str) -> Counter[str]:
    return Counter(" ".join(span.split()) for span in SPAN.findall(text))


def numbers(text: str) -> Counter[str]:
    """Numbers outside of code; Spanish has a decimal comma."""
    return Counter(number.replace(",", ".") for number in NUMBER.findall(SPAN.sub("", text)))


def whole(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# --- the two say the same -------------------------------------------------------------------------


def test_headings_have_the_same_levels() -> None:
    levels = {name: [section.level for section in found] for name, found in READMES.items()}
    assert levels[ENGLISH] == levels[SPANISH]
    assert len(levels[ENGLISH]) == 13


def test_code_blocks_are_the_same_apart_from_comments() -> None:
    for english, spanish in pairs():
        assert len(english.blocks) == len(spanish.blocks), spanish.title
        for (language, text), (other_language, other) in zip(
            english.blocks, spanish.blocks, strict=True
        ):
            assert language == other_language, spanish.title
            if language != "text":
                assert code(text) == code(other), spanish.title


def test_the_picture_has_the_same_lines_and_arrows() -> None:
    for english, spanish in pairs():
        for (language, text), (_, other) in zip(english.blocks, spanish.blocks, strict=True):
            if language == "text":
                shapes = [re.findall(r"[◀▶─→]+", line) for line in text.splitlines()]
                assert [re.findall(r"[◀▶─→]+", line) for line in other.splitlines()] == shapes


def test_prose_names_and_counts_the_same() -> None:
    for english, spanish in pairs():
        assert spans(english.prose) == spans(spanish.prose), spanish.title
        assert numbers(english.prose) == numbers(spanish.prose), spanish.title
        own = {ENGLISH, SPANISH}
        links = [set(LINK.findall(section.prose)) - own for section in (english, spanish)]
        assert links[0] == links[1], spanish.title


def test_table_rows_name_and_count_the_same() -> None:
    for english, spanish in pairs():
        assert len(english.rows) == len(spanish.rows), spanish.title
        for row, other in zip(english.rows, spanish.rows, strict=True):
            assert len(row) == len(other), other
            for cell, translated in zip(row, other, strict=True):
                assert spans(cell) == spans(translated), translated
                assert numbers(cell) == numbers(translated), translated
                assert LINK.findall(cell) == LINK.findall(translated)


def test_quoted_messages_are_not_translated() -> None:
    for english, spanish in pairs():
        for row, other in zip(english.rows, spanish.rows, strict=True):
            assert QUOTED.findall(" ".join(row)) == QUOTED.findall(" ".join(other))


@pytest.mark.parametrize("place", NAMES_FIRST)
def test_the_first_column_is_the_same(place: int) -> None:
    columns = [[row[0] for row in READMES[name][place].entries] for name in (ENGLISH, SPANISH)]
    assert columns[0] == columns[1]


def test_each_links_to_the_other_at_the_top() -> None:
    for name, other in ((ENGLISH, SPANISH), (SPANISH, ENGLISH)):
        assert LINK.findall(whole(name))[0] == other


# --- what they name exists ------------------------------------------------------------------------


def defaults(name: str) -> dict[str, str]:
    """The settings of the table with their defaults, without the marks of code."""
    rows = READMES[name][CONFIGURATION].entries
    return {row[0].strip("`"): row[1].strip("`") for row in rows}


@BOTH
def test_every_setting_with_its_default(name: str) -> None:
    table = defaults(name)
    assert list(table) == [variable(setting.name) for setting in fields(Config)]
    for setting in fields(Config):
        text = table[variable(setting.name)]
        if setting.name == "cors_origins":
            assert setting.default == ()
            assert "loopback" in text
        elif setting.name == "model_path":
            assert Path(text) == setting.default
        elif setting.name == "allowed_hosts":
            assert setting.default == ()
            assert "loopback" in text
        elif setting.name in ("tuned", "api_key", "api_key_file"):
            assert not setting.default
            assert text in ("none", "ninguno")
        else:
            assert setting.metadata["parse"](text) == setting.default, setting.name


@BOTH
def test_no_other_setting_is_named(name: str) -> None:
    known = {variable(setting.name) for setting in fields(Config)}
    assert set(re.findall(r"LLM_[A-Z_]+", whole(name))) == known


@BOTH
def test_what_is_said_of_tuning(name: str) -> None:
    section = READMES[name][TUNING]
    said = numbers(section.prose)
    for number in (plan.PROMPT, plan.ANSWER, tune.SECONDS, 100 * plan.NOISE, plan.MAX_STEP_S):
        assert said[f"{number:g}"], number
    options = {option for action in tune._parser()._actions for option in action.option_strings}
    assert set(re.findall(r"--[a-z]+", section.prose)) <= options
    assert f"`{tune._parser().get_default('out')}`" in section.prose


@BOTH
def test_build_options_are_those_of_cmake(name: str) -> None:
    cmake = (ROOT / "cmake" / "GgmlOptions.cmake").read_text(encoding="utf-8")
    known = set(re.findall(r"[A-Z][A-Z0-9_]+", cmake))
    named = set(re.findall(r"GGML_([A-Z0-9_]+)", whole(name)))
    assert named
    assert not {option for option in named if option not in known and f"GGML_{option}" not in known}
    assert {"NATIVE", "AVX2", "AVX512", "AVX512_VNNI", "AVX_VNNI", "AMX_INT8"} <= named
    assert {"BLAS", "BLAS_VENDOR", "OPENMP", "LTO"} <= named


@BOTH
def test_every_route_and_no_other(name: str) -> None:
    app = App(Config(), Supervisor(Config()))
    routes = {
        f"`{method} {rule.rule.removeprefix('/v1')}`"
        for rule in app._map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    cells = [row[0] for row in READMES[name][ENDPOINTS].entries if "/" in row[0]]
    named = [route for cell in cells for route in cell.split(", ")]
    plain = [route.replace(" /v1/", " /").replace("{id}", "<id>") for route in named]
    assert sorted(plain) == sorted(routes)


@BOTH
def test_named_errors_exist(name: str) -> None:
    named = set(re.findall(r"`(\w+Error)`", whole(name)))
    assert named
    assert not {error for error in named if not hasattr(client, error)}


def dependencies() -> set[str]:
    """Every package that pyproject.toml asks for, without versions; tomllib came with 3.11 only."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = re.findall(
        r"^(requires|dependencies|test|browser|bench|dev) = (\[.*?\])$",
        text,
        re.MULTILINE | re.DOTALL,
    )
    extras = ["test", "browser", "bench", "dev"]
    assert [name for name, _ in lists] == ["requires", "dependencies", *extras]
    names = {
        re.split(r"[\s\[<>=~!;]", entry)[0] for _, it in lists for entry in ast.literal_eval(it)
    }
    return names - {"sheily-server"}


@BOTH
def test_every_dependency_and_no_other(name: str) -> None:
    cells = [row[0] for row in READMES[name][DEPENDENCIES].entries]
    assert cells[0].startswith("[llama.cpp]")
    # Behind the first ";" or "," and a word are packages of npm and Debian.
    listed = [
        name for cell in cells[1:] for name in re.split(r"; |, (?=and |y )", cell)[0].split(", ")
    ]
    assert sorted(listed) == sorted(dependencies())


@BOTH
def test_local_links_exist(name: str) -> None:
    local = {link for link in LINK.findall(whole(name)) if "://" not in link}
    assert local
    assert not {link for link in local if not (ROOT / link).is_file()}


def test_code_blocks_can_be_read() -> None:
    languages = Counter[str]()
    for section in READMES[ENGLISH]:
        for language, text in section.blocks:
            languages[language] += 1
            if language == "python":
                ast.parse(text)
            elif language == "json":
                json.loads(text)
    assert set(languages) == {"text", "sh", "python", "json"}
    assert whole(ENGLISH).count("```") == 2 * sum(languages.values())
