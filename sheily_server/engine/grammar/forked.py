"""Tries one grammar in its own process, which dies when it exceeds its time or memory. Finds what
the grammar costs and which part of it is to blame. Knows llguidance, limits and signals."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import NoReturn

import msgspec

from ...protocol.commands import Grammar
from . import blame
from .blame import Fault
from .constraint import STACK, Constraint, ConstraintError, Grammars
from .looser import looser

CPU_S = 1.0
"""CPU seconds that a grammar may take, including first masks."""
PART_CPU_S = 0.25
"""The same for a part of it, while the part to blame is searched for."""
SEARCH_S = 2.0
"""CPU seconds that this search may take."""
STANDSTILL = 30
"""Seconds, per CPU second allowed, after which a process is taken for stalled and ended."""
MEMORY = 64 << 20
"""Bytes that a grammar may take."""
MASK_S = 0.1
"""CPU seconds that one of the first masks may take."""
N_MASKS = 12
MOST_FAULTS = 64
"""Most parts that are found to blame at once in a grammar that may be relaxed."""
PATTERNS_S = 0.5
"""CPU seconds after which no more of a grammar's patterns are tried one by one."""
_SYSTEM_FAILED = 3
"""Exit code of a forked process that hit an OSError."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a grammar that was compiled within its limits. `problem` says why it is not
    valid, and `faults` which parts are to blame, if they were found."""

    compile_s: float = 0.0
    mask_s: float = 0.0
    n_bytes: int = 0
    problem: str | None = None
    faults: list[Fault] = []


class LimitError(Exception):
    """Raised when a grammar exceeds a limit; the message ends a sentence about it."""


class TrialEndedError(Exception):
    """Raised when a trial ends without the grammar's fault; the message ends a sentence about
    it."""


def measured(grammars: Grammars, grammar: Grammar, patterns: Iterable[str], cpu_s: float) -> Cost:
    """Returns what a grammar and the given patterns cost, measured in a separate process. Raises
    LimitError and TrialEndedError."""
    pid, pipe = fork(lambda pipe: compile_and_leave(grammars, grammar, patterns, cpu_s, pipe))
    with os.fdopen(pipe, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(pid, 0)
    return outcome(status, answer, cpu_s)


def outcome(status: int, answer: bytes, cpu_s: float) -> Cost:
    """Interprets the answer and the end of the process that compiled a grammar. Raises LimitError,
    and TrialEndedError for an end that the grammar did not cause."""
    said, *rest = answer.split(b"\n")
    if rest:
        faults = [msgspec.json.decode(line, type=Fault) for line in rest[:-1]]
        cost = msgspec.structs.replace(msgspec.json.decode(said, type=Cost), faults=faults)
        if cost.mask_s > MASK_S:
            raise LimitError(
                f"takes {cost.mask_s:.2f} s for a token, more than {MASK_S:g}: it is too complex"
            )
        return cost
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if ended_by == signal.SIGPROF:
        raise LimitError(f"takes more than {cpu_s:g} s to compile: it is too complex")
    if ended_by == signal.SIGABRT:
        raise LimitError(f"takes more than {MEMORY >> 20} MiB of memory: it is too complex")
    if ended_by == signal.SIGSEGV:
        raise LimitError(f"takes more than {STACK >> 20} MiB of stack: it is too complex")
    if ended_by == signal.SIGALRM:
        raise TrialEndedError(f"stood still for {STANDSTILL * cpu_s:g} s")
    if ended_by == signal.SIGKILL:
        raise TrialEndedError("was killed")
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _SYSTEM_FAILED:
        raise TrialEndedError("did not get what it needed from the system")
    raise LimitError("ends the compiler")


def fork(run: Callable[[int], NoReturn]) -> tuple[int, int]:
    """Forks a process that calls `run` with a pipe's write end; returns its id and the read end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _dies_with_its_parent()
            os.close(reading)
            run(writing)
        except OSError:
            os._exit(_SYSTEM_FAILED)
        finally:  # whatever it raised
            os._exit(1)
    os.close(writing)
    return pid, reading


def compile_and_leave(
    grammars: Grammars, grammar: Grammar, patterns: Iterable[str], cpu_s: float, pipe: int
) -> NoReturn:
    """Runs in the forked process: compiles the grammar, follows random answers, and writes the cost
    as one line. For an invalid grammar, further lines give the parts at fault."""
    try:
        end_after(cpu_s)
        before = _n_bytes()
        _limit(resource.RLIMIT_AS, before[0] + MEMORY)
        # Limits the main thread from now on. The thread that follows an answer has twice as
        # much, whatever this machine gives to threads.
        _limit(resource.RLIMIT_STACK, STACK)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where Rust says why it aborts
        cost = _cost(grammars, grammar.lark, patterns, before[1])
        os.write(pipe, msgspec.json.encode(cost) + b"\n")
        if cost.problem is not None:
            for fault in _wrong_parts(grammars, grammar):
                os.write(pipe, msgspec.json.encode(fault) + b"\n")
        os._exit(0)
    except MemoryError:
        os.abort()
    except OSError as error:
        if error.errno == errno.ENOMEM:
            os.abort()
        raise


def end_after(cpu_s: float) -> None:
    """Ends this process after `cpu_s` CPU seconds, or when it stands still."""
    for number, timer, seconds in (
        (signal.SIGPROF, signal.ITIMER_PROF, cpu_s),
        (signal.SIGALRM, signal.ITIMER_REAL, STANDSTILL * cpu_s),
    ):
        signal.signal(number, signal.SIG_DFL)
        signal.setitimer(timer, seconds)


def _limit(what: int, most: int) -> None:
    """Lowers a limit of this process for good; a lower limit stays."""
    _, hard = resource.getrlimit(what)
    least = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (least, hard if what == resource.RLIMIT_STACK else least))


def _cost(grammars: Grammars, lark: str, patterns: Iterable[str], bytes_before: int) -> Cost:
    began = time.process_time()
    try:
        constraint = grammars.compile_now(lark)
        compiled = time.process_time()
        mask_s = _walk(constraint, lark)
    except ConstraintError as error:
        return Cost(problem=str(error))
    n_bytes = max(_n_bytes()[1] - bytes_before, 0)
    del constraint
    # A random answer may not reach a pattern, and masks of patterns can be costly.
    for pattern in patterns:
        with contextlib.suppress(ConstraintError):
            mask_s = max(mask_s, _walk(grammars.compile_now(pattern), pattern))
        if time.process_time() > compiled + PATTERNS_S:
            break
    return Cost(compile_s=compiled - began, mask_s=mask_s, n_bytes=n_bytes)


def _wrong_parts(grammars: Grammars, grammar: Grammar) -> Iterator[Fault]:
    """Yields the deepest part that cannot be compiled. Where such parts may be relaxed, yields all
    of them, then what cannot be compiled without them, and so on."""

    def is_wrong(schema: blame.Schema, root: blame.Schema) -> bool:
        return not compiles(blame.part(schema, root))

    def compiles(lark: str) -> bool:
        try:
            grammars.compile_now(lark)
        except ConstraintError:
            return False
        return True

    faults = blame.find(grammar, is_wrong, _most_faults(grammar))
    is_first = True
    while faults:
        without = looser(grammar, faults)
        if is_first or without is not None:
            yield from faults
        if without is None or compiles(without.lark):
            return
        grammar, is_first = without, False
        faults = blame.find(grammar, is_wrong, _most_faults(grammar))


def _most_faults(grammar: Grammar) -> int:
    return MOST_FAULTS if grammar.loose else 1


def _walk(constraint: Constraint, lark: str) -> float:
    """Follows a random answer for some tokens; returns the CPU seconds of the costliest mask."""
    random = Random(lark)
    dearest = 0.0
    for _ in range(N_MASKS):
        began = time.process_time()
        constraint.compute_mask()
        dearest = max(dearest, time.process_time() - began)
        token = constraint.any_allowed(random)
        if token is None:
            break
        constraint.accept(token)
        if constraint.complete:
            break
    return dearest


def _n_bytes() -> tuple[int, int]:
    """Returns the size of this process's address space, and its resident memory without file
    mappings, which a forked process gets back only gradually."""
    page = resource.getpagesize()
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            size, resident, shared = map(int, file.read().split()[:3])
    except OSError:
        return 1 << 40, 0
    return size * page, (resident - shared) * page


def parts_to_blame(grammars: Grammars, grammar: Grammar) -> list[Fault]:
    """Returns the deepest part of the grammar's schemas that exceeds a limit by itself, if any; all
    of them where they may be relaxed."""
    ends = time.monotonic() + 10 * SEARCH_S
    budget = [SEARCH_S]

    def too_much(schema: blame.Schema, root: blame.Schema) -> bool:
        if budget[0] <= 0 or time.monotonic() > ends:
            raise blame.SearchEndedError
        part = Grammar(blame.part(schema, root), "")
        before = _children_cpu_s()
        try:
            measured(grammars, part, blame.patterns(schema, root), PART_CPU_S)
        except LimitError:
            return True
        except TrialEndedError:
            raise blame.SearchEndedError from None
        finally:
            budget[0] -= _children_cpu_s() - before
        return False

    return blame.find(grammar, too_much, _most_faults(grammar))


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _dies_with_its_parent() -> None:
    with contextlib.suppress(AttributeError):  # not Linux
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
