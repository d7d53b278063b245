"""Our Q8_0 kernels against whole-number arithmetic: every shape and value, no model."""

from __future__ import annotations

import itertools
import shutil
import subprocess

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheily_native import InvalidArgumentError, kernels
from sheily_native.cpu import current_cpu
from tests.support.models import ROOT

BLOCK = kernels.BLOCK
GROUP = 16
BITS_OF_FLOAT = 24
SMALLEST = np.float32(1e-30)
LARGEST_HALF = 65504.0
ONE = np.float16(1)

# What Linux calls the instruction sets of each. `avx512vl_vnni` is `avx_vnni` in the encoding of
# AVX-512: on a CPU without the other encoding it stands for both.
AVX2 = {"avx2", "fma", "f16c"}
AVX512_VNNI = AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}
NEEDS = {
    "avx512_vnni": AVX512_VNNI,
    "avx_vnni": AVX2 | {"avx_vnni"},
    "avx512vl_vnni": AVX512_VNNI,
    "avx2": AVX2,
}

# Groups of rows: one, an odd number, many; blocks of columns: one, odd, even.
SHAPES = [(16, 1), (48, 3), (32, 8), (272, 5), (64, 33)]
MANY = (100, 130, 257)
THREADS = (1, 2, 3, 5, 16)  # the last is more than there are groups or CPUs

Weights = npt.NDArray[np.uint8]
Tokens = npt.NDArray[np.float32]
Exact = npt.NDArray[np.float64]


@pytest.fixture(params=NEEDS)
def kernel(request: pytest.FixtureRequest) -> str:
    """Each kernel that runs here."""
    name: str = request.param
    if name not in kernels.usable():
        built = name in kernels.names()
        pytest.skip(f"{name} is not {'for this CPU' if built else 'in this build'}")
    return name


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(12345)


def q8_0(quants: npt.NDArray[np.int8], scales: np.float16 | npt.NDArray[np.float16]) -> Weights:
    """Blocks as a file holds them; `quants` are (rows, blocks, 32)."""
    rows, blocks, _ = quants.shape
    halves = np.ascontiguousarray(np.broadcast_to(scales, (rows, blocks)), "<f2")
    return np.concatenate(
        [halves.view(np.uint8).reshape(rows, blocks, 2), quants.view(np.uint8)], axis=2
    )


def any_quants(random: np.random.Generator, rows: int, blocks: int) -> npt.NDArray[np.int8]:
    return random.integers(-128, 128, (rows, blocks, BLOCK), dtype=np.int8)


def any_weights(random: np.random.Generator, rows: int, blocks: int) -> Weights:
    scales = random.normal(0, 0.01, (rows, blocks)).astype(np.float16)
    return q8_0(any_quants(random, rows, blocks), scales)


def whole_tokens(random: np.random.Generator, n_tokens: int, blocks: int) -> Tokens:
    """Whole numbers with a 127 in each block: quantizing changes nothing, and the scale is 1."""
    values = random.integers(-127, 128, (n_tokens, blocks, BLOCK))
    place = random.integers(0, BLOCK, (n_tokens, blocks, 1))
    sign = random.choice([-127, 127], (n_tokens, blocks, 1))
    np.put_along_axis(values, place, sign, axis=2)
    return values.reshape(n_tokens, blocks * BLOCK).astype(np.float32)


def whole_product(quants: npt.NDArray[np.int8], tokens: Tokens) -> npt.NDArray[np.int64]:
    """The product for scales of 1, exact in a float too: no partial sum needs more bits."""
    blocks = quants.shape[1]
    w = quants.astype(np.int64)
    x = tokens.reshape(len(tokens), blocks, BLOCK).astype(np.int64)
    sums = np.cumsum(np.einsum("rbk,tbk->trb", w, x), axis=2)
    assert np.abs(sums).max() <= 2**BITS_OF_FLOAT
    out: npt.NDArray[np.int64] = sums[:, :, -1]
    return out


def exact_product(weights: Weights, tokens: Tokens) -> tuple[Exact, Exact]:
    """The product by its definition, and how far rounding the sums to floats may lead from it."""
    blocks = weights.shape[1]
    scales = weights[:, :, :2].copy().view("<f2")[:, :, 0].astype(np.float64)
    quants = weights[:, :, 2:].view(np.int8).astype(np.int64)
    x = tokens.reshape(len(tokens), blocks, BLOCK)
    most = np.abs(x).max(axis=2)
    inverse = np.divide(np.float32(127), most, out=np.zeros_like(most), where=most > SMALLEST)
    x_quants = np.rint(x * inverse[:, :, None]).astype(np.int64)
    x_scales = (most / np.float32(127)).astype(np.float64)
    dots = np.einsum("rbk,tbk->trb", quants, x_quants).astype(np.float64)
    terms = dots * scales[None] * x_scales[:, None]
    # For each block the product of the scales is rounded, then the sum; and floats end at 1e-38.
    error = (blocks + 2) * 2.0**-BITS_OF_FLOAT * np.abs(terms).sum(axis=2)
    return terms.sum(axis=2), error + 1e-37


def assert_close(out: Tokens, weights: Weights, tokens: Tokens) -> None:
    wanted, error = exact_product(weights, tokens)
    assert out.shape == wanted.shape
    wrong = ~(np.abs(out - wanted) <= error)  # NaN is wrong too
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size}, first (token, row) {wrong.nonzero()}"


def test_which_kernels_there_are() -> None:
    flags = current_cpu().flags
    assert set(kernels.names()) <= set(NEEDS)  # a new kernel is to be tested here
    if flags is None:
        pytest.skip("this system does not list its CPU's instruction sets")
    assert kernels.usable() == [name for name in kernels.names() if flags >= NEEDS[name]]
    if kernels.names() and flags >= AVX512_VNNI:
        assert {"avx512_vnni", "avx512vl_vnni", "avx2"} <= set(kernels.usable())


@pytest.mark.parametrize(("rows", "blocks"), [*SHAPES, (16, 256)])
def test_every_number_of_tokens(
    kernel: str, rows: int, blocks: int, random: np.random.Generator
) -> None:
    quants = any_quants(random, rows, blocks)
    weights = q8_0(quants, ONE)
    tokens = whole_tokens(random, max(MANY), blocks)
    wanted = whole_product(quants, tokens)
    for n in (*range(1, 65), *MANY):
        out = kernels.multiply(kernel, weights, tokens[-n:], n_threads=1 + n % 3)
        np.testing.assert_array_equal(out, wanted[-n:], err_msg=f"{n} tokens")


@pytest.mark.parametrize(("rows", "blocks"), [*SHAPES, (48, 256)])
def test_floats(kernel: str, rows: int, blocks: int, random: np.random.Generator) -> None:
    weights = any_weights(random, rows, blocks)
    tokens = random.normal(0, 3, (64, blocks * BLOCK)).astype(np.float32)
    for n in (1, 2, 5, 8, 13, 16, 17, 64):
        assert_close(
            kernels.multiply(kernel, weights, tokens[:n], n_threads=2), weights, tokens[:n]
        )


@pytest.mark.parametrize("blocks", [1, 7, 256])
def test_the_reference_is_that_of_the_stock_kernel(
    blocks: int, random: np.random.Generator
) -> None:
    # The scales of these activations are the same in half precision, which it rounds them to.
    quants = np.maximum(any_quants(random, 24, blocks), -127)
    weights = q8_0(quants, np.float16(0.01))
    tokens = whole_tokens(random, 5, blocks) / np.float32(64)
    out = kernels.multiply(kernels.OFF, weights, tokens, n_threads=2)
    wanted, _ = exact_product(weights, tokens)
    np.testing.assert_allclose(out, wanted, rtol=1e-6, atol=1e-6 * float(np.abs(wanted).max()))


def test_the_largest_sums(kernel: str) -> None:
    """Where sums of products in 16 bits, or of unsigned with signed bytes, would overflow."""
    rows, blocks = 32, 3
    ends = [(-128, -128), (-127, -127), (127, 127), (127, -128), (-128, 127), (0, 127), (0, 0)]
    largest = [(127, 127), (-127, -127), (127, -127), (-127, 127), (127, 0)]
    for weight, value, n in itertools.product(ends, largest, (1, 2, 3, 5, 8, 12, 16, 33)):
        quants = np.tile(np.array(weight, np.int8), (rows, blocks, BLOCK // 2))
        tokens = np.tile(np.array(value, np.float32), (n, blocks * BLOCK // 2))
        out = kernels.multiply(kernel, q8_0(quants, ONE), tokens)
        what = f"{n} tokens of {value} by weights of {weight}"
        np.testing.assert_array_equal(out, whole_product(quants, tokens), err_msg=what)


@pytest.mark.parametrize(
    "scale", [0.0, -0.0, -0.25, LARGEST_HALF, -LARGEST_HALF, 2.0**-24, 1023 * 2.0**-24, 2.0**-14]
)
def test_scales_at_the_ends(kernel: str, scale: float, random: np.random.Generator) -> None:
    weights = q8_0(any_quants(random, 48, 4), np.float16(scale))
    tokens = random.normal(0, 1, (19, 4 * BLOCK)).astype(np.float32)
    for n in (1, 4, 19):
        out = kernels.multiply(kernel, weights, tokens[:n], n_threads=2)
        assert_close(out, weights, tokens[:n])
        assert bool(out.any()) == (scale != 0)


def test_each_row_and_block_has_its_own_scale(kernel: str, random: np.random.Generator) -> None:
    rows, blocks = 48, 5
    scales = 2.0 ** random.integers(-14, 16, (rows, blocks)) * random.choice([-1, 0, 1], (rows, 1))
    weights = q8_0(any_quants(random, rows, blocks), scales.astype(np.float16))
    for n in (1, 7, 40):
        tokens = random.normal(0, 1, (n, blocks * BLOCK)).astype(np.float32)
        tokens *= 10.0 ** random.integers(-3, 4, (n, 1)).astype(np.float32)
        assert_close(kernels.multiply(kernel, weights, tokens), weights, tokens)


def test_activations_at_the_ends(kernel: str, random: np.random.Generator) -> None:
    """A token for each kind: alone, in pairs and all in one product."""
    blocks = 3
    normal = random.normal(0, 1, blocks * BLOCK).astype(np.float32)
    one_huge = normal.copy()
    one_huge[40] = 1e30
    halves = np.tile(np.array([127, 0.5, 1.5, 2.5, -0.5, -1.5, -126.5, 3], np.float32), 12)
    smallest = np.full_like(normal, np.nextafter(np.float32(0), np.float32(1)))
    kinds = {
        "zeros": np.zeros_like(normal),
        "a block of zeros": np.where(np.arange(len(normal)) // BLOCK == 1, 0, normal),
        "one huge value": one_huge,
        "rounded to even": halves,
        "1e-35": normal * np.float32(1e-35),
        "about the smallest": np.linspace(-1.5e-30, 1.5e-30, len(normal)),
        "3e38": np.where(normal > 0, 3e38, -3e38),
        "subnormal": smallest * 1000,
        "the smallest there is": smallest,
    }
    weights = q8_0(any_quants(random, 32, blocks), np.float16(2.0**-14))
    tokens = np.array(list(kinds.values()), np.float32)
    for first in range(len(tokens)):
        for n in (1, 2, len(tokens) - first):
            part = tokens[first : first + n]
            assert_close(kernels.multiply(kernel, weights, part), weights, part)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("n_tokens", [1, 6, 30])
def test_what_is_no_number_stays_in_its_token(
    kernel: str, value: float, n_tokens: int, random: np.random.Generator
) -> None:
    weights = any_weights(random, 48, 4)
    tokens = random.normal(0, 1, (n_tokens, 4 * BLOCK)).astype(np.float32)
    bad = n_tokens // 2
    tokens[bad, 33] = value
    good = np.arange(n_tokens) != bad
    for spoilt in (tokens, np.where(good[:, None], tokens, np.float32(value))):
        out = kernels.multiply(kernel, weights, spoilt, n_threads=2)
        if good.any():
            assert_close(out[good], weights, tokens[good])


@pytest.mark.parametrize("n_tokens", [1, 2, 12, 13, 16, 17, 47])
def test_threads_change_nothing(kernel: str, n_tokens: int, random: np.random.Generator) -> None:
    weights = any_weights(random, 144, 5)
    tokens = random.normal(0, 1, (n_tokens, 5 * BLOCK)).astype(np.float32)
    alone = kernels.multiply(kernel, weights, tokens, n_threads=1)
    assert_close(alone, weights, tokens)
    for n_threads in THREADS:
        for _ in range(3):
            out = kernels.multiply(kernel, weights, tokens, n_threads=n_threads)
            np.testing.assert_array_equal(out, alone, err_msg=f"{n_threads} threads")


def test_a_token_is_worth_the_same_in_every_batch(kernel: str, random: np.random.Generator) -> None:
    """To the bit: a sum is made in one order, whatever stands beside it."""
    weights = any_weights(random, 48, 9)
    tokens = random.normal(0, 1, (130, 9 * BLOCK)).astype(np.float32)
    alone = np.concatenate([kernels.multiply(kernel, weights, token[None]) for token in tokens])
    for n in (*range(2, 65), 130):
        out = kernels.multiply(kernel, weights, tokens[:n], n_threads=2)
        np.testing.assert_array_equal(out, alone[:n], err_msg=f"{n} tokens")


@given(
    groups=st.integers(1, 9),
    blocks=st.integers(1, 20),
    n_tokens=st.integers(1, 70),
    n_threads=st.integers(1, 5),
    whole=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_shape(
    kernel: str,
    groups: int,
    blocks: int,
    n_tokens: int,
    n_threads: int,
    whole: bool,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    rows = groups * GROUP
    if whole:
        quants = any_quants(random, rows, blocks)
        tokens = whole_tokens(random, n_tokens, blocks)
        weights = q8_0(quants, ONE)
        out = kernels.multiply(kernel, weights, tokens, n_threads=n_threads)
        np.testing.assert_array_equal(out, whole_product(quants, tokens))
    else:
        weights = any_weights(random, rows, blocks)
        tokens = random.normal(0, 1, (n_tokens, blocks * BLOCK)).astype(np.float32)
        assert_close(
            kernels.multiply(kernel, weights, tokens, n_threads=n_threads), weights, tokens
        )


@pytest.mark.parametrize(
    ("weights", "tokens", "n_threads"),
    [
        ((16, 2, 34), (1, 32), 1),
        ((16, 2, 34), (1, 96), 1),
        ((16, 2, 33), (1, 64), 1),
        ((16, 68), (1, 64), 1),
        ((16, 2, 34), (64,), 1),
        ((8, 2, 34), (1, 64), 1),
        ((24, 2, 34), (1, 64), 1),
        ((0, 2, 34), (1, 64), 1),
        ((16, 0, 34), (1, 0), 1),
        ((16, 2, 34), (0, 64), 1),
        ((16, 2, 34), (1, 64), 0),
        ((16, 2, 34), (1, 64), -3),
    ],
)
def test_what_does_not_fit_is_refused(
    kernel: str, weights: tuple[int, ...], tokens: tuple[int, ...], n_threads: int
) -> None:
    with pytest.raises(InvalidArgumentError):
        kernels.multiply(
            kernel,
            np.zeros(weights, np.uint8),
            np.zeros(tokens, np.float32),
            n_threads=n_threads,
        )


def test_an_unknown_kernel_is_refused() -> None:
    weights, tokens = np.zeros((16, 1, 34), np.uint8), np.zeros((1, 32), np.float32)
    with pytest.raises(InvalidArgumentError, match="'mmx'"):
        kernels.multiply("mmx", weights, tokens)
    with pytest.raises(InvalidArgumentError, match="'mmx'"):
        kernels.integer_peak("mmx")


def test_a_kernel_for_another_cpu_is_refused() -> None:
    others = set(kernels.names()) - set(kernels.usable())
    if not others:
        pytest.skip("this CPU can run every kernel")
    weights, tokens = np.zeros((16, 1, 34), np.uint8), np.zeros((1, 32), np.float32)
    for name in others:
        with pytest.raises(InvalidArgumentError, match="this CPU"):
            kernels.multiply(name, weights, tokens)
        with pytest.raises(InvalidArgumentError, match="this CPU"):
            kernels.integer_peak(name, n_threads=1, seconds=0.001)


def test_bounds_can_be_measured(kernel: str) -> None:
    assert kernels.integer_peak(kernel, n_threads=2, seconds=0.01) > 0


def test_the_linker_can_share_nothing_of_a_kernel() -> None:
    """An inline function that is kept from a file for AVX-512 would be called on every CPU."""
    nm = shutil.which("nm")
    folder = ROOT / "build" / "editable" / "CMakeFiles" / "_native.dir"
    objects = sorted(folder.glob("**/kernels/*_avx*.o"))
    if nm is None or not objects:
        pytest.skip("needs nm and the objects of a build in build/editable")
    for path in objects:
        lines = subprocess.check_output([nm, "-C", path], text=True).splitlines()
        defined = [line.split(maxsplit=2) for line in lines if not line.startswith(" ")]
        assert not [name for _, kind, name in defined if kind in "VWuvw"], path.name
