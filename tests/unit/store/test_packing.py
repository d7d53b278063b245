"""Records as blocks: what comes out is what went in, or an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.store.base import Record
from sheily_server.store.packing import UnpackError, pack, unpack
from tests.support.records import record


def unpacked(block: bytes) -> Record:
    return unpack(block, id="resp_a", owner="anna", created=1, status="failed", previous="resp_b")


@given(st.binary(), st.binary(), st.binary(), st.binary())
def test_any_texts(body: bytes, items: bytes, context: bytes, events: bytes) -> None:
    asked = Record(
        id="resp_a",
        owner="anna",
        created=1,
        status="failed",
        body=body,
        items=items,
        context=context,
        previous="resp_b",
        events=events,
    )
    assert unpacked(pack(asked)) == asked


def test_the_text_of_json_shrinks() -> None:
    text = " ".join(f"word {n}" for n in range(2_000))
    assert len(pack(record("a", text))) < len(text)


def test_no_byte_that_was_changed_changes_a_text() -> None:
    """Some change nothing: the last byte of the data has bits that mean nothing."""
    block = pack(record("a", "some text of a response"))
    errors = 0
    for place in range(len(block)):
        changed = bytearray(block)
        changed[place] ^= 0x5A
        try:
            assert unpacked(bytes(changed)) == unpacked(block)
        except UnpackError:
            errors += 1
    assert errors >= len(block) - 1
    for length in range(len(block)):
        with pytest.raises(UnpackError):
            unpacked(block[:length])
