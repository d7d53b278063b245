"""The engine's admission with its real compilers, asked about grammars alone."""

from __future__ import annotations

import queue
from random import Random

from sheily_server.engine.__main__ import lexer_states
from sheily_server.engine.admission import Admission, Job
from sheily_server.engine.grammar.constraint import Grammars
from sheily_server.engine.grammar.trials import Trials
from sheily_server.engine.kvcache.answer_ids import AnswerIds
from sheily_server.engine.lanes import Lanes
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.engine.vitals import Vitals
from sheily_server.protocol.commands import Grammar, Sampling, Segment, Start, Submit
from sheily_server.protocol.events import Admitted, RequestEvent
from tests.support.waiting import WAIT

PARALLEL = 4
CONTEXT = 512
Verdict = tuple[RequestEvent, Job | None]


class Desk:
    """Takes requests with grammars. Verdicts come in the order in which they are reached."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        n_states = lexer_states(PARALLEL)
        self.tokenizer = tokenizer
        self.grammars = Grammars(tokenizer.vocabulary, n_states, tokenizer.encode_bytes)
        self.trials = Trials(tokenizer.vocabulary, n_states)
        self._verdicts: queue.SimpleQueue[Verdict] = queue.SimpleQueue()
        self._admission = Admission(
            tokenizer=tokenizer,
            lanes=Lanes(Vitals()),
            trials=self.trials,
            answers=AnswerIds(CONTEXT),
            start=Start(
                model_path="", context_size=CONTEXT, parallel=PARALLEL, threads=0, log_level="error"
            ),
            answer=lambda event, job: self._verdicts.put((event, job)),
        )

    def take(self, grammar: Grammar, id: int = 1, caller: str = "") -> None:
        self._admission.take(
            Submit(
                id=id,
                segments=[Segment("a", False)],
                sampling=Sampling(),
                max_tokens=CONTEXT,
                stop=[],
                deadline=float("inf"),
                grammar=grammar,
                scope=caller,
            )
        )

    def cancel(self, id: int) -> None:
        self._admission.cancel(id)

    def verdict(self, seconds: float = WAIT) -> Verdict:
        """The next one. Raises queue.Empty if none comes so soon."""
        return self._verdicts.get(timeout=seconds)

    def ask(self, grammar: Grammar | None) -> Verdict:
        """Returns the verdict on one grammar, where no other is waited for."""
        assert grammar is not None
        self.take(grammar)
        return self.verdict()

    def relaxed(self, grammar: Grammar | None) -> tuple[list[str], Grammar]:
        """Returns what was left out of a grammar that is admitted, and what is left of it."""
        event, job = self.ask(grammar)
        assert isinstance(event, Admitted), event
        assert job is not None
        assert job.submit.grammar is not None
        assert job.submit.grammar.relaxed == event.relaxed
        return event.relaxed, job.submit.grammar

    def allows(self, grammar: Grammar, text: str) -> bool:
        constraint = self.grammars.compile_now(grammar.lark)
        for token in [*self.tokenizer.encode_bytes(text.encode()), None]:
            if constraint.complete:
                return token is None
            constraint.compute_mask()
            found = self.tokenizer.vocabulary.ends[0] if token is None else token
            if not constraint.mask[found // 32] >> found % 32 & 1:
                return False
            constraint.accept(found)
        return True

    def walk(self, grammar: Grammar, random: Random, most: int = 30) -> tuple[bytes, list[int]]:
        """Follows a random answer; returns its text, and every control token that any of its masks
        allowed."""
        constraint = self.grammars.compile_now(grammar.lark)
        vocabulary = self.tokenizer.vocabulary
        text, control = b"", set[int]()
        for _ in range(most):
            if constraint.complete:
                break
            constraint.compute_mask()
            control |= {t for t in vocabulary.control if constraint.mask[t // 32] >> t % 32 & 1}
            token = constraint.any_allowed(random)
            assert token is not None
            constraint.accept(token)
            text += b"" if token in vocabulary.control else vocabulary.tokens[token]
        return text, sorted(control)

    def close(self) -> None:
        """Has the compilers' process end, which it does by itself when this one does."""
        self.trials.close()
