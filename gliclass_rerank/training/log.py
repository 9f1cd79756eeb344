"""How training goes: a bar for people, and a file for plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class TrainingLog(TrainerCallback):
    """Shows loss and dev score in a bar, if there is a terminal, and writes them as JSON lines.

    Args:
        path: The file; a run that goes on goes on in it, and drops what was logged behind its state.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, *times, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task("training")
        self._shown: dict[str, float] = {}

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401 - as Trainer's
    ) -> None:
        """Show the bar, and drop from the file what will be logged again."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True) if self._path.exists() else []
        whole = (line for line in lines if line.endswith("\n"))  # the last one of a run that was cut off may not be
        lines = [line for line in whole if json.loads(line)["step"] <= state.global_step]
        self._path.write_text("".join(lines), encoding="utf-8")
        self._progress.start()
        self._progress.update(self._task, total=state.max_steps, completed=state.global_step)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401 - as Trainer's
    ) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,  # noqa: ANN401 - as Trainer's
    ) -> None:
        """Show what was logged, and append it to the file."""
        logs = logs or {}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
        self._shown |= {k.replace("_", " "): v for k, v in logs.items() if k == "loss" or k.startswith("dev_")}
        self._progress.update(self._task, description="  ".join(f"{k} {v:.3f}" for k, v in self._shown.items()))

    def stop(self) -> None:
        """Leave the bar as it is, and give the terminal back."""
        self._progress.stop()
