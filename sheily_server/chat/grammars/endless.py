"""Leaves out of a grammar what no answer can complete, such as a rule that always needs itself.

The compilers would take it, and an answer that began it could never end. Pure, in linear time.
"""

from __future__ import annotations

from dataclasses import replace

from .tree import (
    EMPTY,
    Chars,
    Choice,
    GrammarError,
    Name,
    Part,
    Repeat,
    Rules,
    Sequence,
    children,
    names_in,
)


def ending(rules: Rules) -> Rules:
    """Returns the rules that an answer can follow to an end. Raises GrammarError without any."""
    completed = _completed(rules)
    if rules.start not in completed:
        raise GrammarError("no answer can follow it to an end")
    kept = {name: _kept(part, completed) for name, part in rules.rules.items()}
    ignored = tuple(one for part in rules.ignored if (one := _kept(part, completed)) is not None)
    found: dict[str, Part] = {}
    todo = [rules.start, *(name for part in ignored for name in names_in(part))]
    while todo:
        name = todo.pop()
        part = kept[name]
        if name not in found and part is not None:
            found[name] = part
            todo += names_in(part)
    ordered = {name: found[name] for name in rules.rules if name in found}
    return replace(rules, rules=ordered, terminals=rules.terminals & found.keys(), ignored=ignored)


def _completed(rules: Rules) -> set[str]:
    """Returns the rules that some text completes.

    Each part waits for as many others as it needs, and tells those that wait for it.
    """
    missing: list[int] = []
    waiting: list[list[int]] = []
    of_rule: dict[str, int] = {}
    uses: list[tuple[int, str]] = []
    todo: list[tuple[Part, int]] = []
    for name, part in rules.rules.items():
        of_rule[name] = len(missing)
        missing.append(1)
        waiting.append([])
        todo.append((part, of_rule[name]))
    done: list[int] = []
    while todo:
        part, parent = todo.pop()
        number = len(missing)
        waiting.append([parent])
        missing.append(_needed(part))
        if missing[number] == 0:
            done.append(number)
        elif isinstance(part, Name):
            uses.append((number, part.name))
        todo += [(child, number) for child in children(part)]
    for number, name in uses:
        waiting[of_rule[name]].append(number)
    while done:
        for number in waiting[done.pop()]:
            missing[number] -= 1
            if missing[number] == 0:
                done.append(number)
    return {name for name, number in of_rule.items() if missing[number] <= 0}


def _needed(part: Part) -> int:
    """Returns how many of a part's own parts it needs."""
    if isinstance(part, Sequence):
        return len(part.parts)
    if isinstance(part, Repeat):
        return int(part.least > 0)
    if isinstance(part, Chars):
        return int(not part.ranges and not part.negated)
    return int(isinstance(part, Name | Choice))


def _kept(part: Part, completed: set[str]) -> Part | None:
    """Returns a part without what cannot be completed; None if nothing is left."""
    if isinstance(part, Name):
        return part if part.name in completed else None
    if isinstance(part, Chars):
        return None if _needed(part) else part
    if isinstance(part, Sequence):
        parts = [_kept(each, completed) for each in part.parts]
        known = tuple(each for each in parts if each is not None)
        return Sequence(known) if len(known) == len(parts) else None
    if isinstance(part, Choice):
        options = [_kept(each, completed) for each in part.options]
        found = tuple(each for each in options if each is not None)
        return Choice(found) if found else None
    if isinstance(part, Repeat):
        inner = _kept(part.part, completed)
        if inner is None:
            return None if part.least else EMPTY
        return replace(part, part=inner)
    return part
