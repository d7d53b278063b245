"""Whether a model fits into the memory that is free."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sheily_server.backend import preflight
from sheily_server.backend.gguf import GGUF
from sheily_server.backend.preflight import BUFFERS, Free, free_memory, kv_bytes_a_token, problem
from sheily_server.config import STORE_MB_IN_MEMORY, Config
from sheily_server.engine import __main__ as engine
from sheily_server.engine import reading
from sheily_server.engine.grammar import compiler, constraint, forked

LLAMA_3B = GGUF(
    file_bytes=3_421_898_624,
    tensor_bytes=3_414_061_312,
    n_tensors=255,
    n_parameters=3_212_749_888,
    metadata={
        "general.architecture": "llama",
        "llama.block_count": 28,
        "llama.embedding_length": 3072,
        "llama.attention.head_count": 24,
        "llama.attention.head_count_kv": 8,
        "llama.attention.key_length": 128,
        "llama.attention.value_length": 128,
    },
    lengths={"tokenizer.ggml.tokens": 128_256},
)
CONFIG = Config(context_size=4096, parallel=4)
KV = 4 * 4096 * 28 * 8 * 256 * 2
WORK = (
    preflight.TEXTS
    + preflight.A_TEXT * preflight.LARGE_BODIES
    + preflight.A_SMALL_TEXT * (CONFIG.parallel + CONFIG.queue - preflight.LARGE_BODIES)
    + preflight.BACKGROUND
    + preflight.GRAMMARS
    + preflight.LEXERS
    + preflight.COMPILERS
    + 128_256 * preflight.COMPILERS_A_TOKEN
    + (STORE_MB_IN_MEMORY << 20)
)
"""Without the prompts."""
PROMPTS = preflight.PROMPT_A_TOKEN * (4 + CONFIG.queue)
"""For each token of the context."""


def free(n_bytes: int) -> Free:
    return Free(n_bytes, "of this machine")


def test_responses_in_a_file_take_no_memory() -> None:
    needed = LLAMA_3B.tensor_bytes + KV + BUFFERS + WORK + 4096 * PROMPTS
    in_memory = STORE_MB_IN_MEMORY << 20
    assert problem(CONFIG, LLAMA_3B, free(needed - in_memory)) is not None
    in_a_file = replace(CONFIG, store=Path("/r.db"))
    assert problem(in_a_file, LLAMA_3B, free(needed - in_memory)) is None
    assert problem(in_a_file, LLAMA_3B, free(needed - in_memory - 1)) is not None


def test_the_kv_cache_s_size() -> None:
    assert kv_bytes_a_token(CONFIG, LLAMA_3B) == 28 * 8 * 256 * 2
    assert kv_bytes_a_token(replace(CONFIG, kv_type="q8_0"), LLAMA_3B) == 28 * 8 * 256 * 34 / 32
    without = {k: v for k, v in LLAMA_3B.metadata.items() if "length" not in k}
    assert kv_bytes_a_token(CONFIG, replace(LLAMA_3B, metadata=without)) is None
    assert problem(CONFIG, replace(LLAMA_3B, metadata=without), free(0)) is None


def test_what_fits_and_what_does_not() -> None:
    needed = LLAMA_3B.tensor_bytes + KV + BUFFERS + WORK + 4096 * PROMPTS
    assert problem(CONFIG, LLAMA_3B, free(needed)) is None
    words = problem(CONFIG, LLAMA_3B, free(needed - 1)) or ""
    assert f"the work on requests {(WORK + 4096 * PROMPTS) / 1e9:.2f} GB" in words
    assert f"together {needed / 1e9:.2f} GB" in words


def test_a_larger_vocabulary_needs_more() -> None:
    needed = LLAMA_3B.tensor_bytes + KV + BUFFERS + WORK + 4096 * PROMPTS
    larger = replace(LLAMA_3B, lengths={"tokenizer.ggml.tokens": 128_257})
    assert problem(CONFIG, larger, free(needed + preflight.COMPILERS_A_TOKEN)) is None
    assert problem(CONFIG, larger, free(needed + preflight.COMPILERS_A_TOKEN - 1)) is not None


def test_more_requests_need_more() -> None:
    config = replace(CONFIG, queue=400)
    room = LLAMA_3B.tensor_bytes + KV + BUFFERS + WORK + 4096 * PROMPTS
    more = (400 - CONFIG.queue) * (preflight.A_SMALL_TEXT + 4096 * preflight.PROMPT_A_TOKEN)
    assert problem(config, LLAMA_3B, free(room + more)) is None
    assert problem(config, LLAMA_3B, free(room + more - 1)) is not None


def test_the_largest_context_that_fits_is_told() -> None:
    room = LLAMA_3B.tensor_bytes + BUFFERS + WORK + 1000 * (KV // 4096 + PROMPTS)
    words = problem(CONFIG, LLAMA_3B, free(room)) or ""
    assert "LLM_CONTEXT_SIZE=1000 would fit with LLM_PARALLEL=4" in words
    assert "of this machine" in words
    fitting = replace(CONFIG, context_size=1000)
    assert problem(fitting, LLAMA_3B, free(room)) is None
    assert problem(replace(fitting, context_size=1001), LLAMA_3B, free(room)) is not None


def test_where_only_one_conversation_fits_or_none() -> None:
    least = LLAMA_3B.tensor_bytes + BUFFERS + WORK - 3 * preflight.A_SMALL_TEXT
    one = KV // (4 * 4096) + preflight.PROMPT_A_TOKEN * (1 + CONFIG.queue)
    words = problem(CONFIG, LLAMA_3B, free(least + 100 * one)) or ""
    assert "LLM_CONTEXT_SIZE=100 would fit with LLM_PARALLEL=1" in words
    assert "No context would fit" in (problem(CONFIG, LLAMA_3B, free(least)) or "")
    assert "No context would fit" in (problem(CONFIG, LLAMA_3B, free(0)) or "")


def test_the_engine_s_bounds_are_counted() -> None:
    for parallel in range(1, 65):
        states = parallel * engine.lexer_states(parallel)
        assert 2000 * states <= preflight.lexer_bytes(parallel)
    kept = constraint.MOST_KEPT_BYTES + compiler.AT_ONCE * forked.MEMORY
    assert kept <= preflight.GRAMMARS
    assert 100 * reading.MOST_OF_A_SLICE <= preflight.TEXTS


def machine(folder: Path, available_kb: int, cgroup: str) -> tuple[Path, Path]:
    proc, groups = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:  {available_kb} kB\n")
    (proc / "self" / "cgroup").write_text(cgroup)
    return proc, groups


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_the_machine_s_memory(tmp_path: Path) -> None:
    proc, groups = machine(tmp_path, 1000, "0::/\n")
    assert free_memory(proc, groups) == Free(1_024_000, "of this machine")


@pytest.mark.parametrize("place", ["a", "a/b"])
def test_the_limit_of_a_group_or_one_above_it(tmp_path: Path, place: str) -> None:
    proc, groups = machine(tmp_path, 10**6, "0::/a/b\n")
    group(groups / "a" / "b", memory__max="max\n", memory__current="1\n")
    group(
        groups / place,
        memory__max="5000\n",
        memory__current="3000\n",
        memory__stat="anon 5\ninactive_file 500\n",
    )
    assert free_memory(proc, groups) == Free(2500, "under the limit of its control group")


def test_a_group_of_the_first_version(tmp_path: Path) -> None:
    proc, groups = machine(tmp_path, 10**6, "5:cpu,cpuacct:/x\n4:memory:/x\n")
    group(
        groups / "memory" / "x",
        memory__limit_in_bytes="7000\n",
        memory__usage_in_bytes="3000\n",
        memory__stat="total_inactive_file 1000\n",
    )
    group(groups / "memory", memory__limit_in_bytes=f"{2**63 - 4096}\n")
    assert free_memory(proc, groups).n_bytes == 5000


def test_a_system_that_says_nothing(tmp_path: Path) -> None:
    assert free_memory(tmp_path / "none", tmp_path / "none").n_bytes > 10**15


def test_this_system() -> None:
    assert free_memory().n_bytes > 10**6
