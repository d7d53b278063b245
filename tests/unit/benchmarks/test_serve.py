"""Servers side by side without one: what answers, figures, ratios and the table are made of."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.common.report import BenchmarkError, Machine, Memory, Verdict
from benchmarks.engine import peers
from benchmarks.serve import contestants, texts
from benchmarks.serve.against import choose
from benchmarks.serve.aims import AIMS, verdicts
from benchmarks.serve.client import Ask, events, read_answer, user
from benchmarks.serve.contestants import Load, Recipe, Server
from benchmarks.serve.report import (
    COPY_HEAVY,
    FOUR_TURNS,
    LLAMA_CPP_PYTHON,
    LLAMA_SERVER,
    LONG_BESIDE_STREAMS,
    LONG_PROMPT,
    MIXED,
    NO_REPETITION,
    OURS,
    OURS_PLAIN,
    PREDICTION,
    SCENARIOS,
    SINGLE,
    Answer,
    Figures,
    Report,
    Round,
    Turn,
    beside,
    figures,
    in_turn,
    medians,
    memories,
    percentile,
)
from benchmarks.serve.scenarios import RUN, RUN_PAIR, Pair, Subject
from benchmarks.serve.table import table

GB = 10**9
Arrivals = list[tuple[float, bytes]]


def chunk(text: str | None = None, finish: str | None = None, **more: object) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


def last_chunk(**more: object) -> bytes:
    return b"data: " + json.dumps({"choices": [], **more}).encode() + b"\n\ndata: [DONE]\n\n"


ROLE = b'data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}\n\n'


# --- statistics -----------------------------------------------------------------------------------


def test_percentiles_lie_between_their_neighbours() -> None:
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile([1.0, 2.0, 3.0], 0.0) == 1.0
    assert percentile([1.0, 2.0, 3.0], 1.0) == 3.0
    assert percentile([float(n) for n in range(101)], 0.95) == pytest.approx(95.0)


def answer(sent: float, times: list[float], n_tokens: int | None = None) -> Answer:
    return Answer(
        sent=sent,
        times=times,
        done=times[-1],
        n_tokens=n_tokens or len(times),
        text="x" * len(times),
        whole=True,
        prompt_tokens=60,
        computed_tokens=30,
    )


def test_figures_of_two_answers() -> None:
    found = figures([answer(10.0, [11.0, 11.5, 12.0]), answer(10.5, [13.0, 13.1, 14.0])])
    assert (found.n_answers, found.n_tokens, found.short_answers) == (2, 6, 0)
    assert found.first_p50_s == pytest.approx(1.75)
    assert found.gap_p50_s == pytest.approx(0.5)
    assert found.gap_p99_s == pytest.approx(0.9, abs=0.02)
    assert found.decode_per_s == pytest.approx(2.0)
    assert found.wall_s == pytest.approx(4.0)
    assert found.tokens_per_s == pytest.approx(1.5)
    assert found.computed_tokens == 60


def test_a_speed_is_of_tokens_and_not_of_chunks() -> None:
    assert answer(0.0, [1.0, 2.0, 3.0], n_tokens=9).decode_rate == pytest.approx(4.0)
    assert answer(0.0, [1.0]).decode_rate is None
    silent = Answer(sent=1.0, times=[], done=3.0, n_tokens=4, text="", whole=True)
    assert silent.first_s == 2.0
    assert silent.decode_rate is None
    assert figures([silent]).gap_p50_s is None
    assert figures([silent]).computed_tokens is None


def test_gaps_beside_a_long_prompt_are_those_of_its_time() -> None:
    streams = [answer(0.0, [0.6, 0.7, 0.8, 0.9, 1.0, 3.0, 3.5, 3.8, 4.1, 4.4])]
    found = beside(streams, answer(1.5, [2.5, 3.2]))  # the gap to 3.5 is of neither time
    assert found.ordinary_gap_s == pytest.approx(0.1)
    streams = [answer(0.0, [0.9, 1.0, 3.0, 3.5, 3.8, 4.1, 4.4])]
    found = beside(streams, answer(1.5, [2.5, 3.2]))
    assert found.ordinary_gap_s == pytest.approx(0.3)
    assert found.gap_p50_s == found.gap_p99_s == pytest.approx(2.0)
    assert found.first_p50_s == pytest.approx(1.0)
    assert found.tokens_per_s is None


def test_time_of_another_server_is_not_that_of_answers_in_turn() -> None:
    found = in_turn([answer(10.0, [11.0, 11.5, 12.0]), answer(20.0, [21.0, 21.1, 21.2])])
    assert found.wall_s == pytest.approx(3.2)
    assert found.tokens_per_s == pytest.approx(6 / 3.2)
    assert found.rates == [pytest.approx(2.0), pytest.approx(10.0)]


# --- what servers answer --------------------------------------------------------------------------


def test_events_come_whole_however_their_bytes_are_cut() -> None:
    data = ROLE + chunk("one") + b": ping\r\n\r\n" + chunk("two").replace(b"\n", b"\r\n")
    whole = [event for _, event in events([(1.0, data)])]
    cut = [event for _, event in events([(float(n), data[n : n + 1]) for n in range(len(data))])]
    assert whole == cut
    assert len(whole) == 3
    assert [time for time, _ in events([(1.0, data[:-1]), (2.0, data[-1:])])] == [1.0, 1.0, 1.0]


def test_our_answer_with_several_tokens_in_a_chunk() -> None:
    usage = {
        "prompt_tokens": 50,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 20},
        "completion_tokens_details": {
            "accepted_prediction_tokens": 6,
            "rejected_prediction_tokens": 1,
        },
    }
    arrivals: Arrivals = [
        (1.0, ROLE),
        (2.0, chunk("one")),
        (3.0, chunk(" two three four") + chunk(" five")),
        (4.0, chunk("", "length")),
        (4.1, last_chunk(usage=usage)),
    ]
    found = read_answer(0.5, arrivals, 9)
    assert found.text == "one two three four five"
    assert found.times == [2.0, 3.0]
    assert found.first_s == 1.5
    assert found.done == 4.0
    assert found.decode_rate == pytest.approx(4.0)
    assert (found.n_tokens, found.whole) == (9, True)
    assert (found.prompt_tokens, found.computed_tokens) == (50, 30)
    assert (found.accepted_tokens, found.rejected_tokens) == (6, 1)


def test_chunks_that_come_together_are_one_arrival() -> None:
    arrivals: Arrivals = [(1.0, chunk("a")), (1.0004, chunk("b")), (1.1, chunk("c", "length"))]
    found = read_answer(0.5, arrivals, 3)
    assert found.times == [1.0, 1.1]
    assert found.gaps_s == [pytest.approx(0.1)]
    assert (found.text, found.n_tokens) == ("abc", 3)


def test_llama_server_says_what_it_computed() -> None:
    usage = {
        "prompt_tokens": 37,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 5},
    }
    end = last_chunk(usage=usage, timings={"cache_n": 5, "prompt_n": 32, "predicted_n": 2})
    found = read_answer(0.0, [(1.0, ROLE + chunk("a")), (2.0, chunk("b")), (2.1, end)], 2)
    assert found.computed_tokens == 32
    assert found.accepted_tokens is None


def test_llama_cpp_python_says_no_usage() -> None:
    begin: Arrivals = [(1.0, ROLE), (2.0, chunk("a")), (3.0, chunk("b"))]
    limit = read_answer(0.0, [*begin, (3.1, chunk(None, "length"))], 5)
    assert (limit.n_tokens, limit.whole, limit.computed_tokens) == (5, True, None)
    ended = read_answer(0.0, [*begin, (3.1, chunk(None, "stop"))], 5)
    assert (ended.n_tokens, ended.whole) == (2, False)
    broken_off = read_answer(0.0, begin, 5)
    assert (broken_off.n_tokens, broken_off.done) == (2, 3.0)


def test_an_error_on_the_way_is_one() -> None:
    with pytest.raises(BenchmarkError, match="no memory"):
        read_answer(0.0, [(1.0, ROLE + b'data: {"error": {"message": "no memory"}}\n\n')], 5)


def test_a_request_has_what_its_server_knows() -> None:
    ask = Ask([user("Hello")], 7, {"temperature": 1, "seed": 3})
    body = ask.body({"ignore_eos": True})
    assert body["messages"] == [{"role": "user", "content": "Hello"}]
    assert body["stream_options"] == {"include_usage": True}
    assert (body["max_tokens"], body["temperature"], body["seed"]) == (7, 1, 3)
    assert body["ignore_eos"] is True
    assert "ignore_eos" not in Ask([user("Hello")], 7).body({})


# --- what they are asked --------------------------------------------------------------------------


def count(text: str) -> int:
    return 10 + len(text.split())


def test_a_seed_gives_the_same_plan() -> None:
    plan = texts.write_plan(3, count, 60)
    assert plan == texts.write_plan(3, count, 60)
    other = texts.write_plan(4, count, 60)
    assert plan.single != other.single
    assert plan.system != other.system
    assert plan.copies != other.copies


def test_texts_have_the_length_that_is_asked() -> None:
    plan = texts.write_plan(1, count, 60)
    assert count(plan.single) == 60
    assert count(plan.long_prompt) == 435
    assert count(plan.very_long_prompt) == 1000
    assert len(plan.turns) == 4
    assert len(set(plan.clients)) == len(set(plan.questions)) == 8
    assert 300 <= len(plan.system.split()) <= 320
    text = plan.copies[0].partition("\n\n")[2]
    assert 150 <= len(text.split()) < 160
    assert len(set(plan.copies)) == len({plan.single, *plan.predicted}) - 1 == 3
    sentences = text.split(". ")
    assert len(set(sentences)) == len(sentences)


def test_a_text_is_not_shorter_than_asked_where_words_are_several_tokens() -> None:
    text = texts.sized(random.Random(1), lambda words: 3 * count(words), 200, "Say them.")
    assert 200 <= 3 * count(text) <= 203


def test_arrivals_are_those_of_their_seed() -> None:
    found = texts.visits(5, rate=2.0, seconds=300.0, count=count)
    assert found == texts.visits(5, rate=2.0, seconds=300.0, count=count)
    assert found != texts.visits(6, rate=2.0, seconds=300.0, count=count)
    times = [visit.at_s for visit in found]
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 300.0
    assert 500 < len(found) < 700
    assert {len(visit.turns) for visit in found} == {1, 3}
    mean = sum(visit.n_tokens * len(visit.turns) for visit in found) / len(found)
    assert mean == pytest.approx(texts.mean_tokens(), rel=0.1)


def test_arrivals_do_not_depend_on_the_tokenizer() -> None:
    one = texts.visits(5, 1.0, 60.0, count)
    other = texts.visits(5, 1.0, 60.0, lambda text: 2 * count(text))
    assert [visit.at_s for visit in one] == [visit.at_s for visit in other]
    assert [visit.n_tokens for visit in one] == [visit.n_tokens for visit in other]


def test_somebody_comes_at_least() -> None:
    assert len(texts.visits(1, rate=1e-6, seconds=1.0, count=count)) == 1


# --- what is asked, and the table -----------------------------------------------------------------


def some(**more: object) -> Figures:
    values: dict[str, object] = {
        "n_answers": 1,
        "n_tokens": 32,
        "short_answers": 0,
        "first_p50_s": 1.0,
        "first_p95_s": 1.5,
        "gap_p50_s": 0.1,
        "gap_p99_s": 0.2,
        "decode_per_s": 10.0,
        "tokens_per_s": 8.0,
        "wall_s": 4.0,
        "computed_tokens": 60,
    }
    return msgspec.convert({**values, **more}, Figures)


def full_round() -> Round:
    memory = Memory(4 * GB, 5 * GB, 3 * GB)
    own = {name: some() for name in SCENARIOS}
    own[FOUR_TURNS] = some(turn_first_s=[2.0, 0.2, 0.3, 0.2])
    own[PREDICTION] = some(
        decode_per_s=70.0,
        plain_per_s=10.0,
        accepted_tokens=120,
        rejected_tokens=8,
        rates=[70.0, 60.0, 45.0],
        plain_rates=[10.0, 12.0, 5.0],
    )
    own[COPY_HEAVY] = some(rates=[10.0, 5.0, 9.0, None])
    own[NO_REPETITION] = some(rates=[10.0, 6.0])
    own[LONG_BESIDE_STREAMS] = some(ordinary_gap_s=0.16)
    peer = {
        name: some(decode_per_s=5.0, first_p50_s=6.0, tokens_per_s=0.5, wall_s=80.0)
        for name in SCENARIOS
        if name not in (PREDICTION, NO_REPETITION)
    }
    peer[FOUR_TURNS] = some(turn_first_s=[2.0, 1.0, 1.0, 1.0], computed_tokens=None)
    plain = {
        COPY_HEAVY: some(decode_per_s=5.0, rates=[5.0, 5.0, 4.0, 2.0]),
        PREDICTION: some(rates=[10.0, 10.0, 5.0]),
        NO_REPETITION: some(rates=[10.0, 6.0]),
    }
    python = {name: one for name, one in peer.items() if name != LONG_BESIDE_STREAMS}
    return {
        OURS: Turn(own, memory),
        OURS_PLAIN: Turn(plain),
        LLAMA_SERVER: Turn(peer, memory),
        LLAMA_CPP_PYTHON: Turn(python, memory),
    }


def by_name(rounds: list[Round]) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in verdicts(rounds)}


def test_all_that_is_asked_is_judged() -> None:
    found = by_name([full_round()])
    assert len(found) == len(AIMS)
    seen = {name: verdict.seen.median for name, verdict in found.items()}
    assert seen["single: decode speed, against llama-server"] == 2.0
    assert seen["long-prompt: first token, against llama-server"] == pytest.approx(1 / 6)
    assert seen["four-turns: first token of later turns, against llama-server"] == 0.2
    assert seen["clients-8: tokens/s in all, against llama-server"] == 16.0
    assert seen["shared-system: wall time, against llama-server"] == 0.05
    assert seen["resident memory, against llama-server"] == 1.0
    assert seen["long-beside-streams: streams' p99 gap over their ordinary one"] == 1.25
    assert seen["prediction: decode speed, against the same request without"] == 7.0
    assert seen["prediction: decode speed, against speculation off"] == 7.0
    assert seen["copy-heavy: decode speed, speculation on / off"] == 2.0
    assert seen["no-repetition: decode speed, on / off"] == 1.0
    assert all(verdict.reached for verdict in found.values())
    asked = {name: verdict.asked for name, verdict in found.items()}
    assert asked["single: decode speed, against llama-server"] == 1.85
    assert asked["clients-8: tokens/s in all, against llama-cpp-python"] == 10
    assert asked["shared-system: wall time, against llama-cpp-python"] == 0.1
    assert asked["single: decode speed, against llama-cpp-python"] == 1


def test_speculation_is_judged_by_couples_of_answers() -> None:
    found = by_name([full_round(), full_round()])
    copy = found["copy-heavy: decode speed, speculation on / off"].seen
    assert (copy.low, copy.median, copy.high) == (1.0, 2.0, 2.25)
    own = found["prediction: decode speed, against the same request without"].seen
    assert (own.low, own.median, own.high) == (5.0, 7.0, 9.0)
    seen = found["prediction: decode speed, against speculation off"].seen
    assert (seen.low, seen.median, seen.high) == (6.0, 7.0, 9.0)
    alone = full_round()
    del alone[OURS_PLAIN]
    assert "copy-heavy: decode speed, speculation on / off" not in by_name([alone])


def test_what_was_not_measured_is_not_judged() -> None:
    alone: Round = {OURS: Turn({SINGLE: some()}, Memory(1, 1, 1))}
    assert verdicts([alone]) == []
    assert verdicts([{OURS: Turn({MIXED: some(first_p95_s=2.0)}, Memory(1, 1, 1))}]) == []
    unsaid: Round = full_round()
    unsaid[OURS].scenarios[SINGLE] = some(decode_per_s=None)
    assert "single: decode speed, against llama-server" not in by_name([unsaid])


def test_ratios_are_taken_a_round_at_a_time() -> None:
    slow = full_round()
    slow[OURS].scenarios[SINGLE] = some(decode_per_s=6.0)
    verdict = by_name([full_round(), slow])["single: decode speed, against llama-server"]
    assert (verdict.seen.low, verdict.seen.median, verdict.seen.high) == (1.2, 1.6, 2.0)
    assert not verdict.reached
    assert verdict.missed_by == pytest.approx(0.25)


def test_figures_are_medians_of_the_rounds() -> None:
    other = full_round()
    other[OURS].scenarios[SINGLE] = some(wall_s=6.0, gap_p50_s=None, others_cpu=0.5)
    other[OURS] = msgspec.structs.replace(other[OURS], memory=Memory(GB, 9 * GB, None))
    found = medians([full_round(), other])
    assert list(found) == list(SCENARIOS)
    assert list(found[SINGLE]) == [OURS, LLAMA_SERVER, LLAMA_CPP_PYTHON]
    assert (found[SINGLE][OURS].wall_s, found[SINGLE][OURS].gap_p50_s) == (5.0, 0.1)
    assert found[SINGLE][OURS].others_cpu == 0.5
    assert found[FOUR_TURNS][OURS].turn_first_s == [2.0, 0.2, 0.3, 0.2]
    assert found[FOUR_TURNS][LLAMA_SERVER].computed_tokens is None
    assert found[COPY_HEAVY][OURS_PLAIN].rates == 2 * [5.0, 5.0, 4.0, 2.0]
    resident = memories([full_round(), other])
    assert resident[OURS] == Memory(4 * GB, 9 * GB, 3 * GB)
    assert OURS_PLAIN not in resident


def report(rounds: list[Round]) -> Report:
    return Report(
        model="m.gguf",
        model_bytes=3_500_000_000,
        threads=2,
        context_size=4096,
        parallel=8,
        tokens=32,
        long_answer=128,
        minutes=3.0,
        visits_per_s=0.125,
        machine=Machine("a CPU", 2, "Linux", "3.11", "llama.cpp"),
        contestants={OURS: "python -m sheily_server", LLAMA_SERVER: "bin/llama-server"},
        notes=["without llama-cpp-python: it could not be built"],
        scenarios=medians(rounds),
        memory=memories(rounds),
        verdicts=verdicts(rounds),
        rounds=rounds,
    )


def test_the_table_has_each_scenario_and_what_was_asked_beside_what_was_seen() -> None:
    round_ = full_round()
    round_[LLAMA_CPP_PYTHON].scenarios[SINGLE] = some(short_answers=2, others_cpu=0.9)
    text = table(report([round_]))
    lines = text.splitlines()
    for name in SCENARIOS:
        assert any(line.startswith(f"{name}: ") for line in lines)
    assert "server   llama-server: bin/llama-server" in lines
    assert "note     without llama-cpp-python: it could not be built" in lines
    (asked,) = (line for line in lines if line.startswith("single: decode speed, against llama-s"))
    assert asked.split()[-7:] == [">=", "1.85", "2.00", "(2.00", "to", "2.00)", "reached"]
    shared = "shared-system: wall time, against llama-server"
    assert any(line.startswith(shared) and "<= 0.067" in line for line in lines)
    assert "first token of each turn, sheily_server: 2.000 0.200 0.300 0.200 s" in lines
    assert (
        "ordinary gap of the streams, before and after the long prompt, sheily_server: 160.0 ms"
        in lines
    )
    assert any("predicted tokens accepted: 120, rejected: 8" in line for line in lines)
    assert "visits: 0.125 a second for 3 minutes" in lines
    assert "answers of another length than asked, llama-cpp-python in single: 2" in lines
    assert "disturbed by 0.90 cores: llama-cpp-python in single" in lines


def test_a_report_survives_its_json() -> None:
    whole = report([full_round()])
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Report) == whole


def test_the_picture_has_every_contestant(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.serve.plot import draw

    first, again = tmp_path / "a.svg", tmp_path / "b.svg"
    for path in (first, again):
        draw(report([full_round()]), path)
    text = first.read_text()
    assert text == again.read_text()
    for words in ("sheily_server", "llama-server", "First token of a long prompt"):
        assert f"<!-- {words} -->" in text
    nothing = Turn({PREDICTION: some()}, Memory(1, 1, 1))
    with pytest.raises(ValueError, match="none of the scenarios"):
        draw(report([{OURS: nothing}]), first)


# --- contestants ----------------------------------------------------------------------------------


def test_every_scenario_can_be_run() -> None:
    assert {*RUN, *RUN_PAIR} == set(SCENARIOS)


@pytest.mark.parametrize("off_first", [False, True])
def test_a_pair_is_asked_in_turn(off_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(subject: Subject, text: str, n_tokens: int, **fields: Any) -> Answer:
        given = fields.get("prediction", {}).get("content", "")
        asked.append((subject.address[0], text, given, fields.get("seed")))
        at = float(len(asked))
        one = answer(at, [at + 0.2, at + 0.4])
        return msgspec.structs.replace(one, text=f"{subject.address[0]}: {text}")

    asked: list[tuple[str, str, str, object]] = []
    monkeypatch.setattr(Subject, "ask", ask)
    plan = texts.write_plan(1, count, 60)
    on, off = (Subject((name, 1), {}, plan, 6, 12, 2048) for name in ("on", "off"))
    order = ("off", "on") if off_first else ("on", "off")
    pair = Pair(on, off, off_first)
    for name, messages, seeds in (
        (COPY_HEAVY, plan.copies, (None, None, None)),
        (NO_REPETITION, plan.random_answers, (1, 2, 3)),
    ):
        asked.clear()
        found = RUN_PAIR[name](pair)
        couples = zip(messages, seeds, strict=True)
        assert asked == [(who, text, "", seed) for text, seed in couples for who in order]
        assert [len(one.rates) for one in found] == [3, 3]
    asked.clear()
    one, other = RUN_PAIR[PREDICTION](pair)
    assert asked == [
        (who, text, given, None)
        for text in plan.predicted
        for who, given in (*((name, "") for name in order), ("on", f"on: {text}"))
    ]
    assert [len(rates) for rates in (one.rates, one.plain_rates, other.rates)] == [3, 3, 3]


def test_scenarios_that_need_a_setting() -> None:
    assert choose([], True) == (list(SCENARIOS), [])
    assert choose([LONG_PROMPT, SINGLE], False) == ([SINGLE, LONG_PROMPT], [])
    chosen, (note,) = choose([], False)
    assert NO_REPETITION not in chosen
    assert "no setting speculation" in note
    with pytest.raises(BenchmarkError, match="no-repetition cannot be measured"):
        choose([NO_REPETITION], False)


def test_programs_of_another_pin_do_not_pass_for_new(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def build(folder: Path, flags: tuple[str, ...], targets: tuple[str, ...]) -> None:
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        for name in targets:
            (folder / "bin" / name).write_text(peers.PIN.read_text())
            made.append(name)

    made: list[str] = []
    monkeypatch.setattr(peers, "PIN", tmp_path / "pin")
    monkeypatch.setattr(peers, "_build", build)
    peers.PIN.write_text("abc")
    peers.tools(tmp_path, peers.NATIVE)
    assert peers.llama_server(tmp_path) == tmp_path / "native" / "bin" / "llama-server"
    peers.llama_server(tmp_path)
    assert made == ["llama-bench", "llama-quantize", "llama-server"]
    peers.PIN.write_text("def")
    peers.tools(tmp_path, peers.NATIVE)
    assert peers.llama_server(tmp_path).read_text() == "def"


LOAD = Load(Path("m.gguf"), context_size=4096, parallel=8, threads=2)


def value(recipe: Recipe, flag: str) -> str:
    return recipe.command[recipe.command.index(flag) + 1]


def test_contestants_get_the_same_file_threads_and_room() -> None:
    own = contestants.ours(LOAD)
    server = contestants.llama_server(Path("llama-server"), LOAD)
    python = contestants.llama_cpp_python(Path("python"), LOAD)
    for recipe, flag in ((own, "--model-path"), (server, "--model"), (python, "--model")):
        assert value(recipe, flag) == "m.gguf"
    for recipe, flag in ((own, "--threads"), (server, "--threads"), (python, "--n_threads")):
        assert value(recipe, flag) == "2"
    assert value(own, "--context-size") == value(python, "--n_ctx") == "4096"
    assert (value(server, "--ctx-size"), value(server, "--parallel")) == ("32768", "8")
    assert value(python, "--interrupt_requests") == "False"
    assert own.extra == server.extra == {"ignore_eos": True}
    assert not python.extra
    assert not python.side_by_side


def test_our_speculation_is_switched() -> None:
    assert "--speculation" not in contestants.ours(LOAD).command
    on, off = (contestants.ours(LOAD, switch) for switch in (True, False))
    assert (on.name, value(on, "--speculation")) == (OURS, "on")
    assert (off.name, value(off, "--speculation")) == (OURS_PLAIN, "off")


SERVER = """
import http.server, os, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("LLM settings:", [name for name in os.environ if name.startswith("LLM_")], flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')
port = sys.argv[sys.argv.index("--port") + 1]
http.server.HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""


def recipe(program: str, *arguments: str) -> Recipe:
    return Recipe(LLAMA_SERVER, (sys.executable, "-c", program, *arguments))


def alive(pid: int) -> bool:
    """A child that nobody waited for is not."""
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_contestant_is_gone_with_all_that_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PORT", "1")
    with Server(recipe(SERVER)) as server:
        pids = server.pids
        assert len(pids) == 2
        assert (server.memory().rss or 0) > 0
        assert "LLM settings: []" in str(server.failure("failed"))
    end = time.monotonic() + 100  # killed is not gone yet
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_contestant_that_does_not_start_is_quoted() -> None:
    program = "import sys; print('loading'); sys.exit('unknown model architecture')"
    with pytest.raises(
        BenchmarkError,
        match=r"llama-server did not start; its log ends: .*unknown model architecture",
    ):
        Server(recipe(program))
    with pytest.raises(BenchmarkError, match="cannot be run"):
        Server(Recipe(LLAMA_SERVER, ("/nowhere/llama-server",)))
