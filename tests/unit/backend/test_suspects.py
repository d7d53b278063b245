"""Who is blamed for the engine's death, who goes alone, and who is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sheily_server.backend.suspects import MOST, Suspects
from sheily_server.protocol.commands import Detokenize, Sampling, Segment, Submit, Tokenize

SUBMIT = Submit(
    id=7,
    segments=[Segment("a secret", False)],
    sampling=Sampling(seed=1),
    max_tokens=5,
    stop=["x"],
    deadline=10.0,
    arrived=5.0,
)


def test_two_deaths_make_a_suspect_and_one_alone_the_culprit() -> None:
    suspects = Suspects()
    assert suspects.verdict(b"a") == "free"
    suspects.blame([b"a", b"b", b"a"])
    assert suspects.verdict(b"a") == "free"
    suspects.blame([b"a"])
    assert (suspects.verdict(b"a"), suspects.verdict(b"b")) == ("alone", "free")
    suspects.convict(b"a")
    assert suspects.verdict(b"a") == "refused"


def test_a_good_end_clears() -> None:
    suspects = Suspects()
    for _ in range(2):
        suspects.blame([b"a"])
    suspects.clear(b"a")
    assert suspects.verdict(b"a") == "free"
    suspects.blame([b"a"])
    assert suspects.verdict(b"a") == "free"
    suspects.clear(b"never seen")


def test_what_is_known_is_bounded_and_what_is_asked_again_stays() -> None:
    suspects = Suspects()
    suspects.convict(b"forgotten")
    suspects.convict(b"asked again")
    for i in range(MOST - 1):
        suspects.blame([b"%d" % i])
        assert suspects.verdict(b"asked again") == "refused"
    assert suspects.verdict(b"forgotten") == "free"


def test_a_repeated_request_has_the_same_fingerprint() -> None:
    suspects = Suspects()
    again = msgspec.structs.replace(
        SUBMIT, id=8, deadline=20.0, arrived=15.0, sampling=Sampling(seed=2), client=["k", "p", "u"]
    )
    assert suspects.fingerprint(SUBMIT) == suspects.fingerprint(again)
    first, second = Tokenize(1, SUBMIT.segments, 5.0), Tokenize(2, SUBMIT.segments, 6.0)
    assert suspects.fingerprint(first) == suspects.fingerprint(second)
    assert suspects.fingerprint(Detokenize(1, [5])) == suspects.fingerprint(Detokenize(2, [5]))


@pytest.mark.parametrize(
    "change",
    [
        {"segments": [Segment("a secret", True)]},
        {"sampling": Sampling(seed=1, temperature=0.5)},
        {"n": 2},
        {"scope": "others"},
    ],
)
def test_another_request_has_another(change: dict[str, Any]) -> None:
    suspects = Suspects()
    other = msgspec.structs.replace(SUBMIT, **change)
    assert suspects.fingerprint(SUBMIT) != suspects.fingerprint(other)


def test_a_fingerprint_tells_nothing_to_whoever_has_not_the_key() -> None:
    found = {Suspects().fingerprint(SUBMIT) for _ in range(2)}
    assert len(found) == 2
    assert {len(fingerprint) for fingerprint in found} == {16}
