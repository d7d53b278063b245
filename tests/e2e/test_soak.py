"""The soak in its shortest form: what a minute can show; `make soak` has the hour."""

from __future__ import annotations

import math
from random import Random

import pytest

from tests.robustness.soak import request, slope, soak
from tests.support import models

MIB = 1 << 20


@pytest.mark.timeout(900)
def test_mixed_traffic_for_a_while() -> None:
    result = soak(models.smollm2(), minutes=0.6, least=100)
    assert result.problems == [], result.table()
    assert sum(result.outcomes.values()) >= 100
    assert any(outcome == "left" for _, outcome in result.outcomes)
    assert result.idle["active_requests"] == 0
    assert result.idle["kv_cells_used"] == 0
    assert "both" in result.table()
    assert '"problems": []' in result.json()


def test_a_slope_with_its_error() -> None:
    straight = [(float(second), 100 * MIB + second * MIB) for second in range(60)]
    assert slope(straight).value == pytest.approx(3600)
    assert slope(straight).error == pytest.approx(0, abs=1e-6)
    random = Random(1)
    noisy = [(second, bytes_ + random.gauss(0, MIB)) for second, bytes_ in straight]
    found = slope(noisy)
    assert abs(found.value - 3600) < 3 * found.error
    assert 5 < found.error < 100
    assert math.isnan(slope(straight[:5]).value)
    assert str(slope(straight[:5])) == "no slope yet"
    flat = [(float(second), 5.0 * MIB) for second in range(10)]
    assert (slope(flat).value, slope(flat).error) == (0.0, 0.0)


def test_steps_make_a_slope_less_sure_than_noise_does() -> None:
    """A process that grew once, in the middle of the time, does not surely grow on."""
    step = [(float(second), (100 + (second >= 30)) * MIB) for second in range(60)]
    found = slope(step)
    assert found.value > 0
    assert found.error > found.value / 10


def test_the_traffic_has_every_kind() -> None:
    random = Random(0)
    kinds = {request(random).kind for _ in range(500)}
    assert kinds >= {"short", "long", "stream", "turns", "schema", "tools", "prediction", "bad"}
