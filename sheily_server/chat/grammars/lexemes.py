"""Finds which parts of a grammar without terminals a lexer may read as one piece. Pure.

llguidance computes a mask much faster for pieces that are expressions than rule by rule. But its
lexer takes the longest piece and never goes back, so a piece is one only if that loses no text:
what may follow the piece cannot be more of it, and nothing else may begin as it does. Sets of
characters are integers, with a bit for each ASCII character and one for all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .tree import (
    Both,
    Chars,
    Choice,
    Name,
    Not,
    Part,
    Pattern,
    Repeat,
    Rules,
    Sequence,
    Text,
    children,
    names_in,
)

_OTHERS = 1 << 128
_ALL = (1 << 129) - 1
_MOST_ROUNDS = 12
"""Passes over the rules, after which no piece is taken for one."""


class _Facts(NamedTuple):
    """What a part matches: whether the empty text, and the characters that a match may begin with,
    that may go on from a whole match, and that there may be at all."""

    empty: bool
    first: int
    more: int
    every: int


class _Place(NamedTuple):
    """Where a part stands: the characters that may follow, and whether nothing else that may stand
    there begins with the same characters."""

    after: int
    alone: bool


_NOTHING = _Facts(True, 0, 0, 0)
_ANYTHING = _Facts(True, _ALL, _ALL, _ALL)


def with_terminals(rules: Rules) -> Rules:
    """Returns the same grammar with terminals where they change nothing."""
    work = _Work(rules)
    if rules.start in work.plain:
        return work.result({rules.start: work.terminal(rules.start)})
    return work.result(work.bodies())


class _Work:
    """One grammar. `plain` are the rules that need no recursion, in the order of their needs."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules.rules
        self._start = rules.start
        self.plain = dict.fromkeys(_plain(rules))
        self._facts: dict[str, _Facts] = {}
        self._terminals: dict[str, Part] = {}
        self._places: dict[str, _Place] = {}
        self._known: dict[int, _Facts] = {}
        self._settled = False
        for name in self.plain:
            self._facts[name] = self._facts_of(self._rules[name])
        self._find_facts()
        self._settled = True

    def result(self, bodies: dict[str, Part]) -> Rules:
        return Rules(bodies | self._terminals, self._start, frozenset(self._terminals))

    def terminal(self, name: str) -> Name:
        """Returns the terminal that matches what a plain rule does."""
        todo = [name]
        while todo:
            one = todo.pop()
            if _key(one) not in self._terminals:
                self._terminals[_key(one)] = _with_terminals(self._rules[one])
                todo += names_in(self._rules[one])
        return Name(_key(name))

    def bodies(self) -> dict[str, Part]:
        """Returns the rules, with terminals in them."""
        first = _Place(0, True)
        for _ in range(_MOST_ROUNDS):
            before = dict(self._places)
            self._terminals.clear()
            found = {self._start: self._placed(self._rules[self._start], first, self._start)}
            for name in list(self._places):
                if name != self._start:
                    found[name] = self._placed(self._rules[name], self._places[name], name)
            first = self._places.get(self._start, first)
            if self._places == before:
                return found
        self._terminals.clear()
        return dict(self._rules)

    def _find_facts(self) -> None:
        """Finds the facts of the rules that are not plain, from none on, until nothing is added."""
        others = [name for name in self._rules if name not in self.plain]
        self._facts |= dict.fromkeys(others, _Facts(False, 0, 0, 0))
        used_by = _users(self._rules)
        todo = dict.fromkeys(reversed(others))
        for _ in range(_MOST_ROUNDS):
            changed = []
            for name in todo:
                found = self._facts_of(self._rules[name])
                if found != self._facts[name]:
                    self._facts[name] = found
                    changed.append(name)
            if not changed:
                return
            todo = dict.fromkeys(user for name in changed for user in used_by[name])
        self._facts |= dict.fromkeys(others, _ANYTHING)

    def _facts_of(self, part: Part) -> _Facts:
        """Returns the facts of a part, by those of the rules as they are known now."""
        if isinstance(part, Name):
            return self._facts[part.name]
        known = self._known.get(id(part))
        if known is None:
            known = self._found_facts(part)
            if self._settled or not children(part):
                self._known[id(part)] = known
        return known

    def _found_facts(self, part: Part) -> _Facts:
        if isinstance(part, Text):
            every = 0
            for sign in part.text:
                every |= _bit(ord(sign))
            return _Facts(not part.text, _bit(ord(part.text[0])) if part.text else 0, 0, every)
        if isinstance(part, Chars):
            own = _bits(part)
            return _Facts(False, own, 0, own)
        if isinstance(part, Sequence):
            found = _NOTHING
            for each in part.parts:
                found = _joined(found, self._facts_of(each))
            return found
        if isinstance(part, Choice):
            return _either([self._facts_of(each) for each in part.options])
        if isinstance(part, Repeat):
            return _repeated(self._facts_of(part.part), part)
        assert isinstance(part, Pattern | Both | Not)
        return _ANYTHING

    def _placed(self, part: Part, place: _Place, rule: str) -> Part:
        """Returns a part of a rule as it is written at its place, and notes the places of the rules
        in it."""
        if (
            isinstance(part, Name | Repeat)
            and place.alone
            and self._is_plain(part)
            and not self._facts_of(part).more & place.after
        ):
            return self._piece(part, rule)
        if isinstance(part, Name):
            known = self._places.get(part.name, _Place(0, True))
            self._places[part.name] = _Place(known.after | place.after, known.alone and place.alone)
            return part
        if isinstance(part, Repeat):
            inner = self._facts_of(part.part)
            after = place.after | (0 if part.most == 1 else inner.first)
            alone = place.alone and not inner.first & place.after
            found = self._placed(part.part, _Place(after, alone), rule)
            return Repeat(found, part.least, part.most)
        if isinstance(part, Choice):
            return self._placed_choice(part, place, rule)
        if isinstance(part, Sequence):
            return self._placed_sequence(part, place, rule)
        return part

    def _placed_choice(self, part: Choice, place: _Place, rule: str) -> Part:
        facts = [self._facts_of(each) for each in part.options]
        once = several = 0
        for each in facts:
            several |= once & each.first
            once |= each.first
        if any(each.empty for each in facts):
            several |= place.after
        return Choice(
            tuple(
                self._placed(
                    option, _Place(place.after, place.alone and not each.first & several), rule
                )
                for option, each in zip(part.options, facts, strict=True)
            )
        )

    def _placed_sequence(self, part: Sequence, place: _Place, rule: str) -> Part:
        facts = [self._facts_of(each) for each in part.parts]
        afters = [place.after]
        for each in reversed(facts[1:]):
            afters.append(each.first | (afters[-1] if each.empty else 0))
        afters.reverse()
        placed: list[Part] = []
        beside, at_start = 0, True
        for one, each, after in zip(part.parts, facts, afters, strict=True):
            rivals = beside | (after if each.empty else 0)
            alone = (place.alone or not at_start) and not each.first & rivals
            placed.append(self._placed(one, _Place(after, alone), rule))
            beside = beside | each.first if each.empty else 0
            at_start = at_start and each.empty
        return Sequence(tuple(placed))

    def _is_plain(self, part: Part) -> bool:
        return all(name in self.plain for name in names_in(part))

    def _piece(self, part: Name | Repeat, rule: str) -> Name:
        """Returns the terminal for a part that is one piece."""
        if isinstance(part, Name):
            return self.terminal(part.name)
        for name in names_in(part):
            self.terminal(name)
        key = f"{_key(rule)}{len(self._terminals)}"
        self._terminals[key] = _with_terminals(part)
        return Name(key)


def _key(name: str) -> str:
    """Returns the name of a rule's terminal, which is no rule's."""
    return f"{name}="


def _with_terminals(part: Part) -> Part:
    """Returns a part with terminals in the place of rules."""
    if isinstance(part, Name):
        return Name(_key(part.name))
    if isinstance(part, Sequence):
        return Sequence(tuple(map(_with_terminals, part.parts)))
    if isinstance(part, Choice):
        return Choice(tuple(map(_with_terminals, part.options)))
    if isinstance(part, Repeat):
        return Repeat(_with_terminals(part.part), part.least, part.most)
    return part


def _plain(rules: Rules) -> list[str]:
    """Returns the rules that lead to no recursion, each behind those that it needs."""
    used_by = _users(rules.rules)
    missing = {name: len(set(names_in(part))) for name, part in rules.rules.items()}
    found = [name for name, count in missing.items() if not count]
    for name in found:
        for other in used_by[name]:
            missing[other] -= 1
            if not missing[other]:
                found.append(other)
    return found


def _users(rules: Mapping[str, Part]) -> dict[str, list[str]]:
    """Returns the rules that use each rule."""
    found: dict[str, list[str]] = {name: [] for name in rules}
    for name, part in rules.items():
        for other in set(names_in(part)):
            found[other].append(name)
    return found


def _joined(left: _Facts, right: _Facts) -> _Facts:
    every = left.every | right.every
    more = right.more | (left.more if right.empty else 0)
    if left.more & right.first:  # a text may be cut in two at several places
        more = every
    empty = left.empty and right.empty
    first = left.first | (right.first if left.empty else 0)
    return _Facts(empty, first, more | (first if empty else 0), every)


def _either(options: list[_Facts]) -> _Facts:
    empty = any(each.empty for each in options)
    first = more = every = several = 0
    for each in options:
        several |= first & each.first
        first |= each.first
        more |= each.more
        every |= each.every
    if several:  # one option may be the beginning of another
        more = every
    return _Facts(empty, first, more | (first if empty else 0), every)


def _repeated(part: _Facts, counts: Repeat) -> _Facts:
    if counts.most == 0:
        return _NOTHING
    more = part.more
    if counts.most != 1 and part.more & part.first:
        more = part.every
    elif counts.least != counts.most:
        more |= part.first
    empty = counts.least == 0 or part.empty
    return _Facts(empty, part.first, more | (part.first if empty else 0), part.every)


def _bit(code: int) -> int:
    return 1 << code if code < 128 else _OTHERS


def _bits(chars: Chars) -> int:
    found = 0
    for low, high in chars.ranges:
        if low < 128:
            found |= (1 << min(high, 127) + 1) - (1 << low)
        if high >= 128:
            found |= _OTHERS
    return (_ALL ^ found) | _OTHERS if chars.negated else found
