"""What the benchmarks of one property make of answers and files, without a server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.common import own
from benchmarks.common.report import BenchmarkError, Machine
from benchmarks.kvstore import directory, files
from benchmarks.kvstore.writing import Round, Turn, gap_ratio
from benchmarks.room import decode_phase_rate
from benchmarks.serve.report import Answer

MACHINE = Machine(cpu="a CPU", cores=2, system="Linux", python="3.11", build="b1")


def answer(*times: float, n_tokens: int | None = None) -> Answer:
    n_tokens = len(times) if n_tokens is None else n_tokens
    return Answer(0.0, list(times), times[-1], n_tokens, "text", True)


def test_the_decode_phase_has_no_prompt_in_it() -> None:
    early, late = answer(1, 2, 3, 4, 5, 6), answer(4.5, 5.5, 6.5, 7.5)
    # With two at a time from 4.5 on, 5 to 7.5 beside each other and then the late one alone.
    assert decode_phase_rate([early, late], 2) == pytest.approx(5 / 3)
    # One after the other is a decode phase as long as one of them streams.
    assert decode_phase_rate([answer(1, 2, 3), answer(5, 6, 7)], 1) == pytest.approx(1.0)


def test_tokens_without_text_count_in_the_decode_phase() -> None:
    assert decode_phase_rate([answer(1, 2, 3, n_tokens=9)], 1) == pytest.approx(3.0)
    with pytest.raises(BenchmarkError, match="no decode phase"):
        decode_phase_rate([answer(1.0)], 1)


def test_gaps_count_by_the_pace_of_their_round() -> None:
    def one(step: float, stalls: bool) -> Turn:
        times = [step * n for n in range(1, 101)]
        if stalls:
            times = [*times[:-3], *(time + step for time in times[-3:])]
        return Turn(answer(0.1), answer(*times))

    slow_and_fast = [Round(one(step, False), one(step, False)) for step in (0.2, 0.1)]
    assert gap_ratio(slow_and_fast) == pytest.approx(1.0)
    stalled = [Round(one(step, True), one(step, False)) for step in (0.2, 0.1)]
    assert gap_ratio(stalled) > 1.0


def test_a_turn_without_figures_says_so() -> None:
    turn = Turn(answer(1.0), answer(1.0))
    with pytest.raises(BenchmarkError, match="computed"):
        _ = turn.prefill_per_s
    with pytest.raises(BenchmarkError, match="no speed"):
        _ = turn.decode_per_s


def test_a_directory_is_filled_with_names_of_blocks(tmp_path: Path) -> None:
    directory.fill(tmp_path, 300)
    found = files.inside(tmp_path)
    assert len(found) == 300
    for path in found:
        assert re.fullmatch(r"[0-9a-f]{64}-256-[0-9a-f]{16}\.kv", path.name)
        assert path.parent.name == path.name[:2]


def test_files_are_read_and_forgotten(tmp_path: Path) -> None:
    with files.scratch(tmp_path / "new") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_bytes(bytes(3 << 20))
        found = files.inside(folder)
        assert files.total_bytes(found) == 3 << 20
        files.forget(found)
        assert files.read(found) > 0
    assert not folder.exists()


def test_a_folder_gets_the_content_of_another(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "a").mkdir(parents=True)
    (one / "a" / "new").write_bytes(b"1")
    (other / "b").mkdir(parents=True)
    (other / "old").write_bytes(b"2")
    files.replace(other, by=one)
    assert [path.relative_to(other) for path in files.inside(other)] == [Path("a/new")]


def test_the_table_has_what_was_asked_beside_what_was_seen() -> None:
    verdicts = [
        own.asked("ratio", 1.5, [1.0, 2.0, 3.0], at_least=True),
        own.asked("refused", 0, [3]),
    ]
    found = own.Findings(own.spreads({"speed": [12.25], "nothing": []}), verdicts, ["a note"])
    lines = own.table(own.Report("name", "m.gguf", 10**9, MACHINE, found)).split("\n")
    assert "speed  12.2 (12.2 to 12.2)" in lines
    assert re.fullmatch(r"ratio +>= 1\.50 +2\.00 \(1\.00 to 3\.00\) +reached", lines[-3])
    assert re.fullmatch(r"refused +<= 0\.000 .* missed by 3\.000", lines[-2])
    assert lines[-1] == "a note"
    assert not any("nothing" in line for line in lines)


def test_what_was_not_seen_has_no_verdict() -> None:
    with pytest.raises(BenchmarkError, match="nothing was seen of: ratio"):
        own.asked("ratio", 1.5, [])
