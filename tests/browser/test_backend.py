"""Node's own tests of the dashboard's backend, which need neither a browser nor a model."""

from __future__ import annotations

import subprocess

from tests.browser.dashboard import FOLDER


def test_node_s_tests_pass(node: None) -> None:
    done = subprocess.run(
        ["node", "--test"], cwd=FOLDER, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass " in done.stdout
