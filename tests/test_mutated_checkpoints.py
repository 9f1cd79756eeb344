"""Mutated checkpoints score or are refused, in little memory and little time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.checkpoint_mutations import MUTATIONS, run, write_twins


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit a process's memory")
def test_mutated_checkpoints_score_or_are_refused(tmp_path: Path) -> None:
    write_twins(tmp_path)
    outcomes = list(run(tmp_path, 0, 6 * len(MUTATIONS)))
    assert len(outcomes) == 6 * len(MUTATIONS)
    assert [outcome for outcome in outcomes if not outcome.fine] == []
    assert {outcome.result for outcome in outcomes} >= {"refused", "same scores"}
