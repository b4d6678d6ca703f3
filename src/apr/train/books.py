"""What the record of a run is made of, whatever ends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apr.train.ledger import Ledger
from apr.train.run_state import RunState, state_name
from apr.train.saver import Saver


@dataclass(kw_only=True)
class Books:
    """What a record is made of, whatever ends the run."""

    ledger: Ledger
    certificate: dict[str, Any] | None = None  # of the start
    saver: Saver | None = None
    before: tuple[str, ...] = ()  # checkpoints of the processes before this one
    step_before: int = 0

    def saved(self, state: RunState) -> None:
        """Note what there is of the processes before this one."""
        self.before, self.step_before = tuple(state.books["checkpoints"]), state.step

    @property
    def committed(self) -> list[str]:
        """Checkpoints that are whole."""
        return self.saver.committed if self.saver else list(self.before)

    @property
    def final_val_loss(self) -> float | None:
        """Of the last checkpoint that is whole."""
        kept = self.ledger.val_losses[: len(self.committed)]
        return kept[-1] if kept else None

    def finish(self) -> None:
        """Wait for the save that is being written."""
        if self.saver is not None:
            self.saver.background.finish()

    @property
    def kept_steps(self) -> int:
        """Steps that a resume would not make again."""
        return self.saver.last_step if self.saver else self.step_before

    @property
    def kept(self) -> str:
        """What an interruption leaves, in words."""
        if not self.ledger.steps:
            return "no step was taken, and the record says INTERRUPTED"
        if not self.kept_steps:
            return f"none of the {self.ledger.steps} steps is kept, and the record says INTERRUPTED"
        return (
            f"{self.kept_steps} of {self.ledger.steps} steps are kept in {state_name(self.kept_steps)}; "
            "go on with --resume"
        )
