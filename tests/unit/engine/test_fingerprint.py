"""What cells on disk depend on beside their tokens."""

from __future__ import annotations

import pytest

from sheily_server.engine.fingerprint import kind_of_cells

LONG = {"general.architecture": "minicpm", "minicpm.rope.scaling.original_context_length": "4096"}


@pytest.mark.parametrize(
    ("metadata", "n_cells", "kind"),
    [
        ({}, 1 << 20, "q8_0"),
        (LONG, 4096, "q8_0"),
        (LONG, 4097, "q8_0 long"),
        (LONG | {"general.architecture": "llama"}, 4097, "q8_0"),
    ],
)
def test_models_that_were_made_longer_have_two_kinds_of_cells(
    metadata: dict[str, str], n_cells: int, kind: str
) -> None:
    assert kind_of_cells(metadata, "q8_0", n_cells) == kind
