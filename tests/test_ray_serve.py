"""The Ray Serve application under a fault, in a network of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.own_network import is_possible, popen


@pytest.mark.slow
@pytest.mark.skipif(not is_possible(), reason="this system gives no network of one's own (unshare)")
def test_when_its_replica_is_killed_whoever_tries_again_is_answered(tmp_path: Path, short_home: Path) -> None:
    result = tmp_path / "faults.json"
    command = [sys.executable, "-m", "benchmarks.faults", "--only", "ray", "--requests", "40", "--json", str(result)]
    process = popen(command, short_home)
    out, log = process.communicate()
    assert process.returncode == 0, out + log
    found = json.loads(result.read_text())["ray"]
    assert found["requests"] == 40 and sum(found["failures, tried again"].values()) > 0  # it did die
