"""Lets the model mine hard negatives while it is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gliclass_rerank.data.atomic_write import atomic_write
from gliclass_rerank.training.negatives import HardNegatives
from gliclass_rerank.training.sampling import GroupSampler
from gliclass_rerank.training.settings import TrainingSettings

STATES = "states"  # folder in the output with the states from which a stopped run can resume
_MINED_SHARE = 4  # for one in four of the coming groups, the model mines negatives
_MINED = "mined.json"


def last_state(output: Path) -> Path | None:
    """Return the newest complete state of a stopped run; None if there is none.

    Args:
        output: The run's folder.
    """
    # The file of mined negatives is written last, so a state that has it is complete.
    states = [mined.parent for mined in (output / STATES).glob(f"checkpoint-*/{_MINED}")]
    return max(states, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


class Mining(TrainerCallback):
    """Lets the model mine hard negatives for some of the coming groups, every ``mine_every`` steps.

    Args:
        score: Scores a question against passages, as the model does now.
        sampler: Says which questions come.
        negatives: Get what is mined.
        settings: How often.
    """

    def __init__(
        self,
        score: Callable[[str, Sequence[str]], Sequence[float]],
        sampler: GroupSampler,
        negatives: HardNegatives,
        settings: TrainingSettings,
    ) -> None:
        self._score, self._sampler, self._negatives, self._settings = score, sampler, negatives, settings

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401 - as Trainer's
    ) -> None:
        """Load the negatives that a resumed run had mined."""
        if state.global_step:
            mined = json.loads(_file_of_mined(args, state).read_text(encoding="utf-8"))
            self._negatives.mined = {int(question): passages for question, passages in mined.items()}

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401 - as Trainer's
    ) -> None:
        """Mine hard negatives if it is time to."""
        every, groups = self._settings.mine_every, self._settings.groups
        if every and state.global_step and state.global_step % every == 0:
            end = min(state.global_step + every, self._settings.steps)
            coming = range(state.global_step * groups, end * groups, _MINED_SHARE)
            questions = {self._sampler.question_of(number) for number in coming}
            self._negatives.mine(sorted(q for q in questions if q is not None), self._score)

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401 - as Trainer's
    ) -> None:
        """Write the mined negatives into the state's folder."""
        with atomic_write(_file_of_mined(args, state)) as unfinished:
            unfinished.write_text(json.dumps(self._negatives.mined), encoding="utf-8")


def _file_of_mined(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / _MINED
