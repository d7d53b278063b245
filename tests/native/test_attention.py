"""The attention kernels against exact attention in float64, over masks as a server has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from sheily_native import InvalidArgumentError, kernels

HIDDEN = np.float16(-np.inf)
Floats = npt.NDArray[np.float32]


@pytest.fixture(params=kernels.usable())
def kernel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def causal(n_tokens: int, n_cells: int) -> npt.NDArray[np.float16]:
    """The last tokens of a sequence whose cells lie in order."""
    mask = np.zeros((n_tokens, n_cells), np.float16)
    for token in range(n_tokens):
        mask[token, n_cells - n_tokens + 1 + token :] = HIDDEN
    return mask


def exact(q: Floats, k: Floats, v: Floats, mask: npt.NDArray[np.float16], scale: float) -> Any:
    """Attention in float64; zeros for a token that sees nothing."""
    share = q.shape[1] // k.shape[1]
    keys = np.repeat(k.astype(np.float64), share, axis=1)
    values = np.repeat(v.astype(np.float64), share, axis=1)
    scores = np.einsum("thd,chd->thc", q.astype(np.float64), keys) * scale
    scores = scores + mask.astype(np.float64)[:, None, :]
    most = scores.max(axis=2, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(most), most, 0.0))
    sums = weights.sum(axis=2, keepdims=True)
    return np.einsum("thc,chd->thd", weights / np.where(sums == 0, 1.0, sums), values)


def check(
    kernel: str,
    mask: npt.NDArray[np.float16],
    *,
    heads: int = 6,
    kv_heads: int = 2,
    width: int = 64,
    n_threads: int = 2,
    quantized: bool = False,
    deviation: float = 1.0,
) -> None:
    n_tokens, n_cells = mask.shape
    rng = np.random.default_rng(n_tokens * 1000 + n_cells)
    q = (rng.normal(size=(n_tokens, heads, width)) * deviation).astype(np.float32)
    k, v = (rng.normal(size=(n_cells, kv_heads, width)).astype(np.float16) for _ in range(2))
    given_k, given_v = k, v
    if quantized:
        blocks = (n_cells, kv_heads, width // kernels.BLOCK, kernels.BLOCK_BYTES)
        q8_0 = GGMLQuantizationType.Q8_0
        given_k, given_v = (quantize(x.astype(np.float32), q8_0).reshape(blocks) for x in (k, v))
        k, v = (dequantize(x.reshape(n_cells, kv_heads, -1), q8_0) for x in (given_k, given_v))
    scale = width**-0.5
    out = kernels.attend(kernel, q, given_k, given_v, mask=mask, scale=scale, n_threads=n_threads)
    wanted = exact(q, k.astype(np.float32), v.astype(np.float32), mask, scale)
    np.testing.assert_allclose(out, wanted, rtol=0, atol=2e-6 * np.abs(v).max() * deviation)


@pytest.mark.parametrize("n_tokens", [*range(1, 20), 31, 32, 33, 48, 64, 70])
def test_a_sequence(kernel: str, n_tokens: int) -> None:
    check(kernel, causal(n_tokens, 200))


@pytest.mark.parametrize("n_cells", [1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 256, 700, 2048])
@pytest.mark.parametrize("n_tokens", [1, 5])
def test_numbers_of_cells(kernel: str, n_tokens: int, n_cells: int) -> None:
    check(kernel, causal(min(n_tokens, n_cells), n_cells))


@pytest.mark.parametrize(
    ("heads", "kv_heads"), [(1, 1), (4, 4), (24, 8), (32, 8), (8, 1), (60, 1), (7, 7)]
)
def test_heads_that_share(kernel: str, heads: int, kv_heads: int) -> None:
    check(kernel, causal(1, 300), heads=heads, kv_heads=kv_heads)
    check(kernel, causal(21, 130), heads=heads, kv_heads=kv_heads)


@pytest.mark.parametrize("width", [16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 256])
def test_widths(kernel: str, width: int) -> None:
    check(kernel, causal(1, 150), width=width)
    check(kernel, causal(20, 150), width=width)


@pytest.mark.parametrize("width", [32, 64, 96, 128])
def test_quantized_cells(kernel: str, width: int) -> None:
    check(kernel, causal(1, 150), width=width, quantized=True)
    check(kernel, causal(20, 150), width=width, quantized=True)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("n_tokens", [1, 3, 40])
def test_threads(kernel: str, n_tokens: int, n_threads: int) -> None:
    check(kernel, causal(n_tokens, 900), n_threads=n_threads)


def test_sequences_whose_cells_alternate(kernel: str) -> None:
    mask = np.full((8, 512), HIDDEN)
    for token in range(8):
        mask[token, token : 100 * (token % 3) + 50 + token : 8] = 0
    check(kernel, mask)


def test_sequences_with_one_beginning(kernel: str) -> None:
    mask = np.full((12, 300), HIDDEN)
    mask[:, :100] = 0
    for token in range(12):
        mask[token, 100 + 16 * token : 107 + 16 * token] = 0
    check(kernel, mask)


def test_a_prompt_beside_single_tokens(kernel: str) -> None:
    mask = np.full((40, 640), HIDDEN)
    mask[:36, :300] = causal(36, 300)
    for token in range(36, 40):
        mask[token, 300 + 50 * (token - 36) : 350 + 50 * (token - 36)] = 0
    check(kernel, mask)


def test_a_token_that_sees_nothing(kernel: str) -> None:
    mask = causal(5, 100)
    mask[2] = HIDDEN
    check(kernel, mask)
    check(kernel, np.full((1, 600), HIDDEN))


def test_values_behind_the_mask_do_not_matter_to_one_token(kernel: str) -> None:
    mask = np.zeros((1, 100), np.float16)
    mask[0, 50:] = HIDDEN
    rng = np.random.default_rng(0)
    q = rng.normal(size=(1, 6, 64)).astype(np.float32)
    k, v = (rng.normal(size=(100, 2, 64)).astype(np.float16) for _ in range(2))
    clean = kernels.attend(kernel, q, k, v, mask=mask, scale=0.1)
    k[50:], v[50:] = np.nan, np.inf
    np.testing.assert_array_equal(kernels.attend(kernel, q, k, v, mask=mask, scale=0.1), clean)


def test_scores_far_apart(kernel: str) -> None:
    check(kernel, causal(9, 200), deviation=30.0)


def test_a_finite_mask_is_added(kernel: str) -> None:
    rng = np.random.default_rng(3)
    check(kernel, rng.normal(size=(7, 150)).astype(np.float16))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_mask(data: st.DataObject) -> None:
    n_tokens = data.draw(st.integers(1, 30))
    n_cells = data.draw(st.integers(1, 260))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    share = data.draw(st.sampled_from([0.02, 0.5, 0.97]))
    mask = np.where(rng.random((n_tokens, n_cells)) < share, np.float16(0), HIDDEN)
    check(
        data.draw(st.sampled_from(kernels.usable())),
        mask,
        n_threads=data.draw(st.integers(1, 4)),
        quantized=data.draw(st.booleans()),
    )


def test_stock_and_ours_agree(kernel: str) -> None:
    rng = np.random.default_rng(5)
    q = rng.normal(size=(3, 6, 64)).astype(np.float32)
    k, v = (rng.normal(size=(200, 2, 64)).astype(np.float16) for _ in range(2))
    mask = causal(3, 200)
    ours, stock = (
        kernels.attend(name, q, k, v, mask=mask, scale=0.125) for name in (kernel, "off")
    )
    np.testing.assert_allclose(ours, stock, atol=5e-3)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "width"), [(3, 2, 64), (4, 4, 24), (0, 1, 64)], ids=str
)
def test_shapes_that_do_not_fit(heads: int, kv_heads: int, width: int) -> None:
    q = np.zeros((1, heads, width), np.float32)
    k = np.zeros((10, kv_heads, width), np.float16)
    with pytest.raises(InvalidArgumentError):
        kernels.attend("off", q, k, k, mask=np.zeros((1, 10), np.float16), scale=1.0)
