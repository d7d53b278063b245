"""What a JSON Schema costs: decoding with and without a grammar, alternating in one run; and how
long a request with a new one waits for its trial.

`python -m benchmarks.micro.constrained [--model FILE] [--tokens N] [--rounds R]`
"""

from __future__ import annotations

import argparse
import json
import queue
import statistics
import time
from pathlib import Path

from benchmarks.common.models import shape_file
from sheily_native import Context, Entry, Model, Sampler, SamplingParams
from sheily_server.chat.grammar import schema_grammar
from sheily_server.engine.__main__ import lexer_states
from sheily_server.engine.grammar.compiler import Verdict
from sheily_server.engine.grammar.constraint import Constraint, Grammars
from sheily_server.engine.grammar.trials import Trials
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.version import ShowVersion

# Long enough that it never ends by itself: strings and numbers, nested.
SCHEMA = {
    "type": "array",
    "minItems": 500,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "count": {"type": "integer", "minimum": 0, "maximum": 999},
            "kind": {"enum": ["one", "two", "three"]},
        },
        "required": ["name", "count", "kind"],
        "additionalProperties": False,
    },
}


def decode_s(context: Context, constraint: Constraint | None, n_tokens: int) -> float:
    """Seconds a token of n_tokens single steps, masks and grammar included."""
    context.clear()
    tokens = context.model.tokenize("A list of things as JSON: ")
    params = SamplingParams(temperature=1.0, seed=1)
    with Sampler(context.model.info.n_vocab, params) as sampler:
        begin = 0.0
        for i in range(n_tokens + 1):
            mask = None
            if constraint is not None:
                constraint.compute_mask()
                mask = constraint.mask
            [sampled] = context.step([Entry(0, tokens, sampler=sampler, mask=mask)])
            assert sampled is not None  # as the entry has a sampler
            tokens = sampled.tokens
            if constraint is not None:
                constraint.accept(tokens[0])
            if i == 0:  # behind the prompt
                begin = time.perf_counter()
        return (time.perf_counter() - begin) / n_tokens


def trials_s(tokenizer: Tokenizer, n: int) -> list[float]:
    """How long the trial of an ordinary schema takes, for n that are new."""
    trials = Trials(tokenizer.vocabulary, lexer_states(1))
    verdicts: queue.SimpleQueue[Verdict | None] = queue.SimpleQueue()
    found = []
    for i in range(n + 1):
        began = time.perf_counter()
        grammar = schema_grammar({"title": f"number {i}"} | SCHEMA, "schema")
        trials.ask(i, grammar, "me", verdicts.put)
        verdict = verdicts.get()
        found.append(time.perf_counter() - began)
        if verdict is None or verdict.problem or verdict.failure:
            raise RuntimeError(f"an ordinary schema does not pass: {verdict}")
    trials.close()
    return found[1:]  # the first one waits for the process


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.micro.constrained",
        description="What following a JSON Schema costs, and trying its grammar.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("--model", type=Path, help="default: the 3B shape")
    parser.add_argument("--tokens", type=int, default=24, help="tokens a round (24)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both sides (5)")
    options = parser.parse_args()
    path: Path = options.model or shape_file("3b")
    with Model(path) as model, Context(model, n_ctx=2048) as context:
        tokenizer = Tokenizer(model)
        grammars = Grammars(tokenizer.vocabulary, lexer_states(1), tokenizer.encode_bytes)
        grammar = schema_grammar(SCHEMA, "schema")
        decode_s(context, None, 4)
        ratios, free, bound = [], [], []
        for _ in range(options.rounds):
            free.append(decode_s(context, None, options.tokens))
            bound.append(decode_s(context, grammars.compile_now(grammar.lark), options.tokens))
            ratios.append(free[-1] / bound[-1])
        tried = trials_s(tokenizer, 100)
    print(f"free          {1 / statistics.median(free):8.2f} tokens/s")
    print(f"constrained   {1 / statistics.median(bound):8.2f} tokens/s")
    print(
        f"ratio         {statistics.median(ratios):8.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )
    print(
        f"a new schema  {1000 * statistics.median(tried):8.1f} ms "
        f"(100 of them: to {1000 * max(tried):.1f})"
    )
    line = {
        "benchmark": "constrained",
        "model": str(path),
        "free_tokens_per_s": 1 / statistics.median(free),
        "constrained_tokens_per_s": 1 / statistics.median(bound),
        "ratio": statistics.median(ratios),
        "trial_median_s": statistics.median(tried),
        "trial_max_s": max(tried),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
