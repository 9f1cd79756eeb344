"""Mutated checkpoints score or are refused, in little memory and little time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkpoint_mutations import MUTATIONS, mutate, name_mutation, run, write_twins


def test_a_mutant_depends_on_its_number_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer_config.json"

    def mutants() -> Iterator[str]:
        for number in range(4000):
            if name_mutation(number) == "a value of tokenizer_config.json":
                path.write_text('{"unk_token": {"content": "[UNK]"}, "ids": [1, 2]}')
                mutate(tmp_path, number)
                yield path.read_text()

    assert list(mutants()) == list(mutants())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit a process's memory")
def test_mutated_checkpoints_score_or_are_refused(tmp_path: Path) -> None:
    write_twins(tmp_path)
    outcomes = list(run(tmp_path, 0, 6 * len(MUTATIONS)))
    assert len(outcomes) == 6 * len(MUTATIONS)
    assert [outcome for outcome in outcomes if not outcome.fine] == []
    assert {outcome.result for outcome in outcomes} >= {"refused", "same scores"}
