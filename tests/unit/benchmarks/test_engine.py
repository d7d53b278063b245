"""The engine's benchmark without an engine: what figures, ratios and verdicts are made of."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks.common.report import BenchmarkError, Machine, Memory, Spread
from benchmarks.engine import peers, token_cost
from benchmarks.engine import report as figures
from benchmarks.engine.report import (
    LLAMA_BENCH,
    LLAMA_BENCH_AVX2,
    OPENVINO,
    OURS,
    OURS_AVX2,
    STOCK,
    Bounds,
    Figure,
    FormatRounds,
    Report,
    Round,
    Steps,
    Turn,
)
from benchmarks.engine.table import table
from benchmarks.engine.turns import between
from tools import gguf_file

GB = 10**9


def turn(prefill: float | None = None, decode: float | None = None) -> Turn:
    """One with a memory bound of 10 and an integer peak of 200 tokens/s."""
    return Turn(
        others_cpu=0.0,
        prefill=None if prefill is None else Figure(prefill, [195.0, 205.0]),
        decode=None if decode is None else Figure(decode, [10.0, 10.0]),
    )


def full_turn(rss: int = 4 * GB, load_s: float = 3.0, many_s: float = 0.12) -> Turn:
    return msgspec.structs.replace(
        turn(150.0, 9.6),
        steps=Steps(8, 0.1, many_s),
        load_s=load_s,
        memory=Memory(rss, rss, rss),
        resident_floor=3_500_000_000,
    )


def full_round() -> Round:
    return {
        OURS: full_turn(),
        STOCK: msgspec.structs.replace(turn(25.0, 4.8), load_s=2.5),
        LLAMA_BENCH: turn(25.0, 4.8),
        OPENVINO: turn(90.0, 5.5),
        OURS_AVX2: turn(60.0, 9.2),
        LLAMA_BENCH_AVX2: turn(24.0, 4.5),
    }


def report(rounds: list[Round], formats: list[FormatRounds] | None = None) -> Report:
    formats = formats or []
    return Report(
        model="m.gguf",
        model_bytes=3_500_000_000,
        threads=2,
        prefill_tokens=512,
        decode_tokens=24,
        long_tokens=0,
        n_sequences=8,
        n_rounds=len(rounds),
        machine=Machine("a CPU", 2, "Linux", "3.11", "llama.cpp"),
        kernel="avx512_vnni",
        peers={LLAMA_BENCH: "bin/llama-bench"},
        bounds=Bounds(
            memory=Spread(34.0 * GB, 33.0 * GB, 35.0 * GB),
            integer={"avx512_vnni": Spread(640.0 * GB, 630.0 * GB, 650.0 * GB)},
            bytes_a_token=3_400_000_000,
            multiply_adds_a_token=3_200_000_000,
            prompt_multiply_adds_a_token=2.8e9,
        ),
        contestants=figures.summaries(rounds),
        comparisons=figures.comparisons(rounds),
        verdicts=figures.verdicts(rounds, formats),
        formats=[figures.format_summary(one) for one in formats],
        others_cpu=0.01,
        disturbed=0,
        unsteady=0,
        rounds=rounds,
    )


# --- what llama-bench prints ----------------------------------------------------------------------


def record(**fields: object) -> dict[str, object]:
    return {
        "build_commit": "unknown",
        "model_n_params": 134515008,
        "n_threads": 2,
        "n_prompt": 0,
        "n_gen": 0,
        "n_depth": 0,
        "avg_ts": 1.0,
        "samples_ns": [1],
        "samples_ts": [1.0],
        **fields,
    }


def test_the_record_of_the_test_that_was_asked_for_is_read() -> None:
    text = json.dumps(
        [
            record(n_prompt=32, samples_ts=[355.5, 327.7]),
            record(n_gen=8, samples_ts=[161.5]),
            record(n_gen=8, n_depth=100, samples_ts=[150.0]),
        ]
    )
    assert peers.parse_llama_bench(text, 32, 0).samples_ts == [355.5, 327.7]
    assert peers.parse_llama_bench(text, 0, 8).samples_ts == [161.5]
    assert peers.parse_llama_bench(text, 0, 8, 100).samples_ts == [150.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no results that can be read"),
        ("[{}]", "no results that can be read"),
        (json.dumps([record(n_gen=16)]), "gave no figures"),
        (json.dumps([record(n_gen=8, samples_ts=[])]), "gave no figures"),
    ],
)
def test_output_without_that_test_is_an_error(text: str, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        peers.parse_llama_bench(text, 0, 8)


# --- building the peers ---------------------------------------------------------------------------


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, ...]]:
    """The flags of each build, which writes empty programs."""
    made: list[tuple[str, ...]] = []

    def build(folder: Path, flags: tuple[str, ...], targets: tuple[str, ...]) -> None:
        made.append(flags)
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        for name in targets:
            (folder / "bin" / name).touch()

    pin = tmp_path / "pin"
    pin.write_text("abc\n")
    monkeypatch.setattr(peers, "PIN", pin)
    monkeypatch.setattr(peers, "_build", build)
    return made


def test_peers_are_built_once_for_a_pin_and_its_flags(
    builds: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = peers.tools(tmp_path, peers.NATIVE)
    assert first == peers.tools(tmp_path, peers.NATIVE)
    assert first[peers.LLAMA_BENCH] == tmp_path / "native" / "bin" / "llama-bench"
    assert builds == [peers.FLAGS[peers.NATIVE]]
    peers.tools(tmp_path, peers.AVX2)
    assert builds == [peers.FLAGS[peers.NATIVE], peers.FLAGS[peers.AVX2]]

    peers.PIN.write_text("def\n")
    peers.tools(tmp_path, peers.NATIVE)
    assert len(builds) == 3
    monkeypatch.setattr(peers, "FLAGS", {peers.NATIVE: ("-DOTHER=ON",)})
    peers.tools(tmp_path, peers.NATIVE)
    assert builds[3:] == [("-DOTHER=ON",)]


def test_a_program_that_is_gone_is_built_again(
    builds: list[tuple[str, ...]], tmp_path: Path
) -> None:
    peers.tools(tmp_path, peers.NATIVE)[peers.LLAMA_QUANTIZE].unlink()
    peers.tools(tmp_path, peers.NATIVE)
    assert len(builds) == 2


def test_a_build_that_failed_is_not_taken_for_a_build(
    builds: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers.tools(tmp_path, peers.NATIVE)
    peers.PIN.write_text("def\n")
    works = peers._build

    def fail(*_: object) -> None:
        raise BenchmarkError("no compiler")

    monkeypatch.setattr(peers, "_build", fail)
    with pytest.raises(BenchmarkError, match="no compiler"):
        peers.tools(tmp_path, peers.NATIVE)
    peers.PIN.write_text("abc\n")  # what the programs that are still there were built from
    monkeypatch.setattr(peers, "_build", works)
    peers.tools(tmp_path, peers.NATIVE)
    assert len(builds) == 2


def test_without_the_source_the_error_says_how_to_bring_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peers, "PIN", tmp_path / "none")
    with pytest.raises(BenchmarkError, match=r"vendor/fetch\.py"):
        peers.tools(tmp_path, peers.NATIVE)


def test_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    program = tmp_path / "llama-bench"
    program.write_text("#!/bin/sh\necho 'first line' >&2\necho 'cannot load it' >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(BenchmarkError, match=r"status 3: first line \| cannot load it"):
        peers.llama_bench(program, tmp_path / "m.gguf", 2, decode=8)
    with pytest.raises(BenchmarkError, match="cannot be run"):
        peers.llama_bench(tmp_path / "none", tmp_path / "m.gguf", 2, decode=8)


def test_a_quantizer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    program = tmp_path / "llama-quantize"
    program.write_text('#!/bin/sh\necho half > "$3"\nexit 1\n')
    program.chmod(0o755)
    (tmp_path / "out").mkdir()
    with pytest.raises(BenchmarkError, match="status 1"):
        peers.quantize(program, tmp_path / "in.gguf", tmp_path / "out" / "q.gguf", "Q4_0", 2)
    assert list((tmp_path / "out").iterdir()) == []


# --- what a token costs ---------------------------------------------------------------------------


def write_gguf(path: Path, *names: str, alignment: int | None = None) -> Path:
    """Tensors of 3 rows of 32 weights in Q8_0: 102 bytes, 128 with padding."""
    fields = {"general.architecture": gguf_file.encode("llama")}
    if alignment is not None:
        fields["general.alignment"] = gguf_file.encode(alignment)
    infos = [gguf_file.TensorInfo(name, (32, 3), gguf_file.TENSOR_Q8_0, 102) for name in names]
    with path.open("wb") as file:
        gguf_file.write_header(file, fields, infos)
        if alignment is not None:
            file.write(bytes(-file.tell() % alignment))
        for _ in infos:
            file.write(bytes(102))
            gguf_file.pad(file)
    return path


def test_a_tied_embedding_is_read_whole_as_the_output_matrix(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "token_embd.weight", "blk.0.attn_q.weight")
    cost = token_cost.token_cost(path)
    assert cost == token_cost.TokenCost(2 * 128, 2 * 96, 96)


def test_of_an_embedding_beside_an_output_matrix_one_row_is_read(tmp_path: Path) -> None:
    names = ("token_embd.weight", "blk.0.attn_q.weight", "output.weight")
    cost = token_cost.token_cost(write_gguf(tmp_path / "m.gguf", *names))
    assert cost == token_cost.TokenCost(2 * 128, 2 * 96, 96)


def test_a_prompt_needs_the_output_matrix_for_its_last_token(tmp_path: Path) -> None:
    cost = token_cost.TokenCost(0, multiply_adds=100, output_multiply_adds=30)
    assert cost.prompt_multiply_adds(1) == 100
    assert cost.prompt_multiply_adds(512) == 511 * 70 + 100


def test_tensors_are_read_behind_any_alignment(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "token_embd.weight", "a", alignment=64)
    assert [tensor.nbytes for tensor in token_cost.read_tensors(path)] == [128, 128]


def test_experts_and_strange_files_are_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "token_embd.weight", "blk.0.ffn_gate_exps.weight")
    with pytest.raises(ValueError, match="mixture of experts"):
        token_cost.token_cost(path)
    with pytest.raises(ValueError, match=r"no token_embd\.weight"):
        token_cost.token_cost(write_gguf(tmp_path / "m.gguf", "a"))
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 5, 0))
    with pytest.raises(ValueError, match="says that it has 5 tensors"):
        token_cost.token_cost(path)


# --- figures --------------------------------------------------------------------------------------


def test_a_figure_is_compared_with_the_mean_of_its_bounds() -> None:
    assert Figure(9.0, [8.0, 12.0]).of_bound == pytest.approx(0.9)
    assert Figure(9.0).of_bound is None


def test_a_figure_is_steady_when_its_bounds_are() -> None:
    assert Figure(9.0, [100.0, 109.0]).steady
    assert not Figure(9.0, [100.0, 111.0]).steady
    assert Figure(9.0).steady


def test_a_figure_between_different_bounds_is_measured_again() -> None:
    bounds, rates = iter([10.0, 15.0, 15.5]), iter([1.0, 2.0])
    assert between(lambda: next(bounds), lambda: next(rates)) == Figure(2.0, [15.0, 15.5])


def test_measuring_again_has_an_end() -> None:
    bounds: Iterator[float] = iter([1.0, 2.0, 4.0, 8.0, 16.0])
    rates = iter([1.0, 2.0, 3.0, 4.0])
    assert between(lambda: next(bounds), lambda: next(rates), tries=3) == Figure(3.0, [4.0, 8.0])


def test_without_a_bound_a_figure_is_measured_once() -> None:
    rates = iter([1.0])
    assert between(lambda: None, lambda: next(rates)) == Figure(1.0, [])


def test_unsteady_figures_are_counted() -> None:
    shaky = msgspec.structs.replace(turn(150.0), decode=Figure(9.0, [10.0, 20.0]))
    assert figures.unsteady_figures([{OURS: shaky}, {OURS: turn(150.0, 9.0)}]) == 1


# --- ratios and verdicts --------------------------------------------------------------------------


def test_ratios_are_those_of_the_rounds() -> None:
    """The machine was half as fast in the second round: medians of rates would hide that."""
    rounds = [
        {OURS: turn(160.0, 8.0), LLAMA_BENCH: turn(20.0, 4.0)},
        {OURS: turn(80.0, 4.0), LLAMA_BENCH: turn(10.0, 2.0)},
        {OURS: turn(80.0, 4.0), LLAMA_BENCH: turn(20.0, 1.0)},
    ]
    (comparison,) = figures.comparisons(rounds)
    assert (comparison.ours, comparison.peer) == (OURS, LLAMA_BENCH)
    assert comparison.prefill == Spread(8.0, 4.0, 8.0)
    assert comparison.decode == Spread(2.0, 2.0, 4.0)
    assert comparison.long_decode is None


def test_avx2_is_compared_with_the_avx2_build_alone() -> None:
    pairs = [(one.ours, one.peer) for one in figures.comparisons([full_round()])]
    assert pairs == [
        (OURS, STOCK),
        (OURS, LLAMA_BENCH),
        (OURS, OPENVINO),
        (OURS_AVX2, LLAMA_BENCH_AVX2),
    ]


def test_what_is_asked() -> None:
    found = {
        verdict.name: (verdict.at_least, verdict.asked, round(verdict.seen.median, 3))
        for verdict in figures.verdicts([full_round()])
    }
    assert found == {
        "decode, against llama-bench": (True, 1.9, 2.0),
        "decode, of the memory bound": (True, 0.95, 0.96),
        "prefill, against llama-bench": (True, 5.5, 6.0),
        "prefill, of the integer peak": (True, 0.7, 0.75),
        "prefill, against OpenVINO GenAI": (True, 1.5, 1.667),
        "a step with 8 sequences, against one": (False, 1.25, 1.2),
        "AVX2 alone: decode, of the memory bound": (True, 0.9, 0.92),
        "AVX2 alone: prefill, against llama-bench of an AVX2 build": (True, 2.0, 2.5),
        "resident size beyond file and KV cache": (False, 800, 500.0),
        "load time, against stock without mmap": (False, 1.5, 1.2),
    }
    assert all(verdict.reached for verdict in figures.verdicts([full_round()]))


def test_what_was_missed_says_by_how_much() -> None:
    rounds: list[Round] = [
        {
            OURS: msgspec.structs.replace(
                full_turn(rss=5 * GB, load_s=4.0, many_s=0.15), decode=Figure(9.0, [10.0, 10.0])
            ),
            STOCK: msgspec.structs.replace(turn(25.0, 4.8), load_s=2.5),
        }
    ]
    missed = {
        verdict.name: verdict.missed_by
        for verdict in figures.verdicts(rounds)
        if not verdict.reached
    }
    assert missed == {
        "decode, of the memory bound": pytest.approx(0.05),
        "a step with 8 sequences, against one": pytest.approx(0.25),
        "resident size beyond file and KV cache": pytest.approx(700),
        "load time, against stock without mmap": pytest.approx(0.1),
    }


def test_what_was_not_measured_has_no_verdict() -> None:
    names = [verdict.name for verdict in figures.verdicts([{OURS: turn(decode=9.6)}])]
    assert names == ["decode, of the memory bound"]
    unbounded = Turn(0.0, decode=Figure(9.0))
    assert figures.verdicts([{OURS: unbounded}]) == []


def test_one_good_round_of_three_is_not_enough() -> None:
    rounds = [{OURS: turn(decode=rate)} for rate in (9.9, 9.0, 9.1)]
    (verdict,) = figures.verdicts(rounds)
    assert not verdict.reached
    seen = (verdict.seen.low, verdict.seen.median, verdict.seen.high)
    assert seen == pytest.approx((0.9, 0.91, 0.99))


def test_a_format_may_not_be_slower_than_stock() -> None:
    same = FormatRounds("Q4_0", GB, [{OURS: turn(98.0, 9.8), STOCK: turn(100.0, 10.0)}])
    slow = FormatRounds("Q6_K", GB, [{OURS: turn(99.0, 9.0), STOCK: turn(100.0, 10.0)}])
    reached = {one.name: one.reached for one in figures.verdicts([], [same, slow])}
    assert reached == {
        "Q4_0: decode, against the stock kernels": True,
        "Q4_0: prefill, against the stock kernels": True,
        "Q6_K: decode, against the stock kernels": False,
        "Q6_K: prefill, against the stock kernels": True,
    }


# --- for people -----------------------------------------------------------------------------------


def test_the_table_has_each_contestant_and_each_verdict() -> None:
    text = table(report([full_round()]))
    for name in figures.NAMES.values():
        assert f"\n{name}  " in text
    lines = text.splitlines()
    (ours,) = (line for line in lines if line.startswith("sheily_native  "))
    assert re.split("  +", ours)[1:] == [
        *("150.0", "0.75 (0.75 to 0.75)", "9.60", "0.96 (0.96 to 0.96)"),
        *("120 / 100", "3.0", "4.00"),
    ]
    assert any("memory: 34.0 (33.0 to 35.0) GB/s" in line for line in lines)
    assert any("10.00 tokens/s of decode" in line for line in lines)
    assert any("200.0 tokens/s of prefill" in line for line in lines)
    assert sum(line.endswith("reached") for line in lines) == 10
    assert "missed" not in text


def test_the_table_says_by_how_much_something_was_missed() -> None:
    rounds: list[Round] = [{OURS: full_turn(rss=5 * GB), LLAMA_BENCH: turn(50.0, 4.8)}]
    text = table(report(rounds))
    assert "missed by 2.50 (45 %)" in text  # 150 / 50 against 5.5
    assert "1500 (1500 to 1500) MB  missed by 700.00 MB (88 %)" in text


def test_formats_far_from_the_bound_are_named() -> None:
    near = FormatRounds("Q4_0", GB, [{OURS: turn(98.0, 9.8), STOCK: turn(100.0, 10.0)}])
    far = FormatRounds("F16", GB, [{OURS: turn(99.0, 6.0), STOCK: turn(100.0, 6.0)}])
    text = table(report([], [near, far]))
    assert "F16 decodes at 0.60 of the memory bound" in text
    assert "Q4_0 decodes at" not in text


def test_a_disturbed_run_says_so() -> None:
    disturbed = msgspec.structs.replace(report([full_round()]), disturbed=2, unsteady=1)
    text = table(disturbed)
    assert "turns that they disturbed: 2" in text
    assert "figures between bounds that differ by more than 10 %: 1" in text
    assert "quiet machine" not in table(report([full_round()]))


def test_the_plot_shows_every_contestant(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.engine import plot

    rounds = [full_round(), full_round()]
    saved = tmp_path / "report.json"
    saved.write_bytes(msgspec.json.encode(report(rounds)))
    pictures = [tmp_path / "engine.png", tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in pictures:
        assert plot.main([str(saved), str(path)]) == 0
    assert pictures[0].read_bytes().startswith(b"\x89PNG")
    svg = pictures[1].read_text()
    assert svg == pictures[2].read_text()
    for name in figures.NAMES.values():
        assert f"<!-- {name} -->" in svg
    assert "<!-- 9.60  (96 %) -->" in svg
    assert "<!-- tokens a second -->" in svg


def test_a_plot_of_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.engine import plot

    saved = tmp_path / "report.json"
    saved.write_bytes(msgspec.json.encode(report([])))
    assert plot.main([str(saved), str(tmp_path / "a.png")]) == 1
    assert plot.main([str(tmp_path / "none.json"), str(tmp_path / "a.png")]) == 1
    saved.write_bytes(msgspec.json.encode(report([full_round()])))
    assert plot.main([str(saved), str(tmp_path / "a.xyz")]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [line[:7] for line in errors] == ["error: "] * 3
    assert not (tmp_path / "a.png").exists()
