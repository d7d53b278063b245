"""OpenVINO GenAI as a contestant, run by the Python of an environment that has it.

Takes the orders Setup, Prefill and Decode of `benchmarks.engine.worker`, whose lines it speaks with
the standard library: that environment has nothing of ours.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

import numpy as np
import openvino
import openvino_genai

WARM_UP_TOKENS = 2
ORDINARY_TOKENS = 120_000


class Engine:
    """A pipeline and a stopwatch."""

    def __init__(self, order: dict[str, Any]) -> None:
        began = time.perf_counter()
        self._pipeline = openvino_genai.LLMPipeline(
            order["model"], "CPU", INFERENCE_NUM_THREADS=order["threads"]
        )
        self.load_s = time.perf_counter() - began
        # Ids that mean nothing. A smaller vocabulary than Llama 3's ends where its text does.
        vocabulary = len(self._pipeline.get_tokenizer().get_vocab())
        self._limit = min(ORDINARY_TOKENS, vocabulary // 2)
        self._warm_prefill = False
        self._n_prompts = 0

    def prefill(self, n_tokens: int) -> float:
        """Seconds to the first token. The pipeline keeps prompts, so none comes twice."""
        if not self._warm_prefill:
            self._generate(n_tokens, WARM_UP_TOKENS)
            self._warm_prefill = True
        return self._generate(n_tokens, WARM_UP_TOKENS)[0]

    def decode(self, n_tokens: int, depth: int) -> float:
        """Seconds of `n_tokens` steps behind the first token."""
        self._generate(max(depth, 1), WARM_UP_TOKENS)
        return sum(self._generate(max(depth, 1), n_tokens + 1)[1:])

    def _generate(self, n_prompt: int, n_tokens: int) -> list[float]:
        """Seconds of the prompt with its first token, then of each further token."""
        self._n_prompts += 1
        ids = (7919 * np.arange(1, n_prompt + 1) + 104_729 * self._n_prompts) % self._limit
        tokens = openvino.Tensor(ids.astype(np.int64)[None])
        mask = openvino.Tensor(np.ones((1, n_prompt), np.int64))
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = n_tokens
        config.ignore_eos = True
        config.do_sample = False
        inputs = openvino_genai.TokenizedInputs(tokens, mask)
        metrics = self._pipeline.generate(inputs, config).perf_metrics
        if metrics.get_num_generated_tokens() != n_tokens:
            raise RuntimeError(f"{metrics.get_num_generated_tokens()} tokens came, not {n_tokens}")
        return [
            metrics.get_ttft().mean / 1e3,
            *(us / 1e6 for us in metrics.raw_metrics.m_durations),
        ]


def main() -> None:
    """One reply for each order, until stdin is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C on the terminal is for the parent
    engine: Engine | None = None
    for line in sys.stdin:
        order = json.loads(line)
        reply: dict[str, Any]
        try:
            if order["type"] == "Setup":
                engine = Engine(order)
                reply = {"seconds": engine.load_s, "version": openvino_genai.__version__}
            elif engine is None:
                raise RuntimeError("there is no model yet: the first order is a Setup")
            elif order["type"] == "Prefill":
                reply = {"seconds": engine.prefill(order["n_tokens"])}
            else:
                reply = {"seconds": engine.decode(order["n_tokens"], order.get("depth", 0))}
        except Exception as problem:
            reply = {"error": f"{type(problem).__name__}: {problem}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
