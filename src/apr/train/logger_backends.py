"""The three backends. A figure that was not measured never comes here, so none can be written as 0."""

from __future__ import annotations

import os
from collections.abc import Mapping

from apr.train.loggers import PROJECT, LoggedRun


class Tensorboard:
    """Event files in RUN_DIR/tensorboard.

    A resumed run adds a file that begins with a mark of its first step; TensorBoard then leaves out what older files
    hold of that step and later ones, so every step shows once.
    """

    def __init__(self, run: LoggedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / "tensorboard"
        self.last_step = run.after_step if folder.is_dir() else 0
        self._writer = SummaryWriter(str(folder), purge_step=self.last_step + 1)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write one scalar a figure."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # a kill then costs no line that was counted as written

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class Trackio:
    """A run of the project `apr` in trackio's own store (TRACKIO_DIR).

    A resumed run has the same name, leaves out the steps that the store has already (they are the same to the bit, but
    for the speed), and brings those that a kill took. trackio prints some failures of its own; those cannot be counted.
    """

    def __init__(self, run: LoggedRun) -> None:
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        name = f"{run.name}-{run.id}"
        self._run = trackio.init(
            project=PROJECT,
            name=name,
            config=dict(run.settings),
            resume="allow",
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        there = SQLiteStorage.get_max_step_for_run(PROJECT, run=name)
        self._there = 0 if there is None else int(there)
        self.last_step = min(self._there, run.after_step)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write one row, unless the store has the step."""
        if step > self._there:
            self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """Wait for trackio's own thread."""
        self._run.finish()


class Wandb:
    """A run whose id stands in RUN_DIR/loggers.json, in the project WANDB_PROJECT or `apr`.

    A resumed run goes on under the same id; wandb drops the steps that it has already (they are the same to the bit,
    but for the speed), and gets those that a kill took. With WANDB_MODE=offline each process writes a folder of its own
    in RUN_DIR/wandb, for `wandb sync`, and what the one before lacks is not known: some lines before a kill are lost.
    wandb retries uploads in a process of its own: those cannot be counted.
    """

    def __init__(self, run: LoggedRun) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(run.folder),
            id=run.id,
            name=run.name,
            config=dict(run.settings),
            resume="allow",
            # The terminal is the run's own, and so is what the machine does.
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
        )
        there = (
            run.after_step if self._run.offline else self._run.step - 1
        )  # wandb's own step is the next one
        self.last_step = max(0, min(there, run.after_step))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write one row."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """Wait for the upload."""
        self._run.finish()
