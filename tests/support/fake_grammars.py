"""Grammars without llguidance: an answer goes along one path, and a mask is there when its gate is
open."""

from __future__ import annotations

import threading

import numpy as np

from sheily_server.engine.grammar.constraint import Constraint, ConstraintError, Grammars

PATIENCE_S = 100


class Path(Constraint):
    """Allows one token after the other, and nothing behind the last one. `gates` are events that
    the mask for the token of that number waits for, `fails` is the number of a mask that cannot be
    computed."""

    def __init__(
        self, tokens: list[int], gates: dict[int, threading.Event], fails: int | None = None
    ) -> None:
        self.tokens = tokens
        self.gates = gates
        self.fails = fails
        self.taken: list[int] = []
        self.thread_names: set[str] = set()
        self.mask = np.zeros(1 + max([0, *tokens]) // 32, dtype=np.uint32)

    def compute_mask(self) -> None:
        self.thread_names.add(threading.current_thread().name)
        at = len(self.taken)
        if at in self.gates:
            assert self.gates[at].wait(PATIENCE_S)
        if at == self.fails:
            raise ConstraintError("too many states")
        self.mask[:] = 0
        token = self.tokens[at]
        self.mask[token // 32] = 1 << token % 32

    def accept(self, token: int) -> None:
        assert token == self.tokens[len(self.taken)]
        self.taken.append(token)

    @property
    def complete(self) -> bool:
        return len(self.taken) == len(self.tokens)


class Paths(Grammars):
    """Compiles the text of a grammar to the path that has its name."""

    def __init__(self, paths: dict[str, Path]) -> None:
        self.paths = paths
        self.compiled: list[tuple[str, int]] = []

    def compile(self, lark: str, n_bytes: int) -> Constraint:
        self.compiled.append((lark, n_bytes))
        path = self.paths[lark]
        return Path(path.tokens, path.gates, path.fails)
