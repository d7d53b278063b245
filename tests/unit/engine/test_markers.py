"""Markers found in a text, against looking at every place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sheily_server.engine import markers
from sheily_server.engine.markers import Markers

IDS = {"<|a|>": 1, "<|ab|>": 2, "<|a": 3, "<s>": 4, "x": 5, "ñ.*": 6}


def slowly(text: str, ids: dict[str, int]) -> list[tuple[str, int | None]]:
    parts: list[tuple[str, int | None]] = []
    plain, at = "", 0
    while at < len(text):
        found = max((each for each in ids if text.startswith(each, at)), key=len, default="")
        if found and plain:
            parts.append((plain, None))
            plain = ""
        if found:
            parts.append((found, ids[found]))
        else:
            plain += text[at]
        at += len(found) or 1
    return [*parts, (plain, None)] if plain else parts


texts = st.lists(st.sampled_from([*IDS, "<", "|", "a", "b", ">", "ñ", ".", "\n"]), max_size=30)


@given(texts.map("".join), st.sets(st.sampled_from(sorted(IDS))))
def test_the_parts_are_those_of_a_slow_search(text: str, names: set[str]) -> None:
    ids = {name: IDS[name] for name in names}
    assert list(Markers(ids).split(text)) == slowly(text, ids)


def test_a_marker_over_the_end_of_a_window_is_seen() -> None:
    found = Markers(IDS)
    for n in range(markers._WINDOW - 7, markers._WINDOW + 3):
        text = "." * n + "<|ab|>" + "." * n
        assert list(found.split(text)) == [("." * n, None), ("<|ab|>", 2), ("." * n, None)]
