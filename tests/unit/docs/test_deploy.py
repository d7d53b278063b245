"""docs/deploy.md with its unit for systemd against what there is."""

from __future__ import annotations

import re
from typing import get_args

from prometheus_client.parser import text_string_to_metric_families

from sheily_server.api import openapi
from sheily_server.api.routes import ROUTES
from sheily_server.backend.health import STATES, Health
from sheily_server.config import Config, variable
from sheily_server.metrics import FIRST_TOKEN_BUCKETS, GAP_BUCKETS, Metrics, Outcome
from tests.support.models import ROOT

DEPLOY = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
UNIT = (ROOT / "examples" / "systemd" / "sheily.service").read_text(encoding="utf-8")


def test_buckets_reach_from_ten_milliseconds_to_a_minute_and_beyond() -> None:
    for buckets in (GAP_BUCKETS, FIRST_TOKEN_BUCKETS):
        assert list(buckets) == sorted(set(buckets))
        assert buckets[0] == 0.01
        assert 60 in buckets


def exposed() -> set[str]:
    """Names as queries use them; a histogram's is the one before its suffixes."""
    text = (
        Metrics(
            lambda: Health(
                state="ready",
                reason=None,
                progress=None,
                running=1,
                queued=2,
                restarts=3,
                engine=None,
                load_s=4,
                last_step_age_s=5,
                kv_cells=6,
                kv_cells_used=7,
                kv_cells_cached=8,
            )
        )
        .text()
        .decode()
    )
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(text)
    }


def test_every_metric_is_documented_and_no_other() -> None:
    table = DEPLOY.partition("| metric |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(sheily_\w+)", table)) == exposed()
    elsewhere = {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"sheily_\w+", DEPLOY)
    }
    modules = {"sheily_native", "sheily_server"}
    assert elsewhere - modules <= exposed()


def test_every_outcome_and_state_is_documented() -> None:
    table = DEPLOY.partition("| outcome |")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(get_args(Outcome))
    for state in STATES:
        assert f"`{state}`" in DEPLOY


def test_settings_that_deploy_names_exist() -> None:
    known = {variable(name) for name in Config.__dataclass_fields__} | {"LLM_NAME"}
    assert set(re.findall(r"LLM_[A-Z_]+", DEPLOY + UNIT)) <= known


def test_the_journal_reads_the_priorities_of_lines() -> None:
    assert "\nStandardError=journal\n" in UNIT
    assert "\nSyslogLevelPrefix=yes\n" in UNIT


def test_systemd_waits_for_the_drain() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(seconds) >= Config().drain_timeout + 10
    assert "\nKillMode=mixed\n" in UNIT  # else the engine would be told to end as well


def test_the_routes_of_probes_and_metrics_are_those_of_the_server() -> None:
    paths = set(openapi.document(ROUTES)["paths"])
    assert set(re.findall(r"GET (/\w+)", DEPLOY)) <= paths
