"""How training goes: a bar or plain lines for people, and a file for plots."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 30
_log = logging.getLogger(__name__)


class TrainingLog(TrainerCallback):
    """Shows loss and dev score in a bar on a terminal, and in a logger's lines elsewhere; writes them as JSON lines.

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
        self._first_step, self._started, self._last_line = 0, time.monotonic(), 0.0

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
        resuming = bool(state.global_step)
        lines = [line for line in whole if resuming and json.loads(line)["step"] <= state.global_step]
        self._path.write_text("".join(lines), encoding="utf-8")
        self._first_step, self._started = state.global_step, time.monotonic()
        self._progress.start()
        self._progress.update(self._task, total=state.max_steps, completed=state.global_step)
        self._tell(f"training from step {state.global_step} to {state.max_steps}", at_once=True)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401 - as Trainer's
    ) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=state.global_step)
        seconds_per_step = (time.monotonic() - self._started) / (state.global_step - self._first_step)
        minutes = seconds_per_step * (state.max_steps - state.global_step) / 60
        self._tell(f"step {state.global_step} of {state.max_steps}, {minutes:.0f} minutes left  {self._description}")

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
        self.write({"step": state.global_step, **logs})
        shown = {k.replace("_", " "): v for k, v in logs.items() if k == "loss" or k.startswith("dev_")}
        self._shown |= shown
        self._progress.update(self._task, description=self._description)
        if any(name.startswith("dev ") for name in shown):
            self._tell(f"step {state.global_step} of {state.max_steps}  {self._description}", at_once=True)

    def ranking(self, rankings: Sequence[T]) -> Iterator[T]:
        """Iterate over rankings of dev questions, and show how many are done.

        Args:
            rankings: What is iterated over.

        Yields:
            The rankings.
        """
        task = self._progress.add_task("ranking held-out questions", total=len(rankings))
        for done, ranking in enumerate(rankings):
            self._tell(f"ranked {done} of {len(rankings)} held-out questions")
            yield ranking
            self._progress.advance(task)
        self._progress.remove_task(task)

    def write(self, line: dict[str, Any]) -> None:
        """Append a line to the file.

        Args:
            line: Ready for JSON; ``step`` says when it was.
        """
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def stop(self) -> None:
        """Leave the bar as it is, and give the terminal back."""
        self._progress.stop()

    @property
    def _description(self) -> str:
        return "  ".join(f"{name} {value:.3f}" for name, value in self._shown.items())

    def _tell(self, line: str, *, at_once: bool = False) -> None:
        """Log a line where no bar is shown, if the last one was some time ago."""
        if self._progress.disable:
            now = time.monotonic()
            if at_once or now - self._last_line >= _SECONDS_BETWEEN_LINES:
                _log.info(line)
                self._last_line = now
