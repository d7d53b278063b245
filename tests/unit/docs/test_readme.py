"""The two READMEs say the same, and what they name exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import sheily_server.client as client
from sheily_server.config import Config, variable
from tests.support.markdown import LINK, QUOTED, ROOT, Section, numbers, sections, spans, whole

ENGLISH, SPANISH = "README.md", "README.es.md"
BOTH = pytest.mark.parametrize("name", [ENGLISH, SPANISH])
READMES = {name: sections(name) for name in (ENGLISH, SPANISH)}
MOST_LINES = 180

# Sections by their place: the title's is 0.
FIRST, MAP, SETTINGS = 1, 2, 4


def pairs() -> Iterator[tuple[Section, Section]]:
    return zip(READMES[ENGLISH], READMES[SPANISH], strict=True)


def code(block: str) -> list[str]:
    """The lines of a code block without comments."""
    lines = [re.sub(r"(^|\s+)#.*", "", line) for line in block.splitlines()]
    return [line for line in lines if line]


# --- the two say the same -------------------------------------------------------------------------


def test_headings_have_the_same_levels() -> None:
    levels = {name: [section.level for section in found] for name, found in READMES.items()}
    assert levels[ENGLISH] == levels[SPANISH]
    assert len(levels[ENGLISH]) == 10


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


def test_the_first_column_of_the_settings_is_the_same() -> None:
    columns = [[row[0] for row in READMES[name][SETTINGS].entries] for name in (ENGLISH, SPANISH)]
    assert columns[0] == columns[1]


def test_each_links_to_the_other_at_the_top() -> None:
    for name, other in ((ENGLISH, SPANISH), (SPANISH, ENGLISH)):
        assert LINK.findall(whole(name))[0] == other


# --- what they name exists ------------------------------------------------------------------------


@BOTH
def test_the_settings_exist_and_have_these_defaults(name: str) -> None:
    known = {variable(setting.name): setting for setting in fields(Config)}
    rows = READMES[name][SETTINGS].entries
    assert len(rows) >= 10
    for first, default, _ in rows:
        setting = known[first.strip("`")]
        if setting.name == "model_path":
            assert Path(default.strip("`")) == setting.default
        elif setting.name == "allowed_hosts":
            assert setting.default == ()
            assert "loopback" in default
        elif setting.default is None:
            assert default in ("none", "ninguno")
        else:
            assert setting.metadata["parse"](default) == setting.default, setting.name


@BOTH
def test_no_other_setting_is_named(name: str) -> None:
    known = {variable(setting.name) for setting in fields(Config)}
    assert set(re.findall(r"LLM_[A-Z_]+", whole(name))) <= known


@BOTH
def test_named_modules_of_the_client_exist(name: str) -> None:
    assert f"`{client.__name__}`" in whole(name)


@BOTH
def test_named_targets_of_make_exist(name: str) -> None:
    named = set(re.findall(r"`make ([a-z0-9-]+)`", whole(name)))
    assert "serve" in named
    assert all(re.search(rf"^{target}:", whole("Makefile"), re.MULTILINE) for target in named)


@BOTH
def test_every_way_to_it_is_named(name: str) -> None:
    first = READMES[name][FIRST].body
    for way in ("git clone", "make wheel", "[Containerfile](Containerfile)"):
        assert way in first
    assert "[CONTRIBUTING.md](CONTRIBUTING.md)" in whole(name)


@BOTH
def test_it_is_short_and_begins_with_an_answer(name: str) -> None:
    assert len(whole(name).splitlines()) <= MOST_LINES
    commands = [text for _, text in READMES[name][FIRST].blocks]
    kinds = "git clone|make serve|curl http|pip install"
    assert [re.findall(kinds, text) for text in commands] == [
        ["git clone", "make serve"],
        ["curl http"],
        ["pip install"],
    ]


@BOTH
def test_the_map_names_every_page_for_users(name: str) -> None:
    index = set(LINK.findall(whole("docs/README.md").split("To understand")[0]))
    pages = {path.removeprefix("../") if "../" in path else f"docs/{path}" for path in index}
    of_apis = {page for page in pages if page.startswith("docs/api/")}
    known = set(LINK.findall(whole("docs/api/README.md")))
    assert {page.removeprefix("docs/api/") for page in of_apis} - {"README.md"} <= known
    pages -= of_apis - {"docs/api/README.md"}
    assert pages <= set(LINK.findall(READMES[name][MAP].body))
    assert all((ROOT / page).is_file() for page in pages)
