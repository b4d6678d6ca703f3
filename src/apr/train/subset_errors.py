"""What is refused of a run that trains a part of a model, and what goes wrong with its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from apr.base.errors import EXIT_NO_ANSWER, AprError


@dataclass(kw_only=True, eq=False)
class FreezeUnmatched(AprError):
    """A glob of `--freeze` names no tensor of the model."""

    id = "APR682"
    text = "{option} {glob} matches none of the model's {num_tensors} tensors"
    help = "the nearest names are {nearest}; `apr tensors MODEL.apr` lists all"
    exit_code = EXIT_NO_ANSWER
    option: str
    glob: str
    num_tensors: int
    nearest: str


@dataclass(kw_only=True, eq=False)
class NothingTrainable(AprError):
    """The globs of `--freeze` leave nothing to train."""

    id = "APR683"
    text = "{option} {globs} freezes all of the model's {num_tensors} tensors"
    help = "name fewer; to evaluate a checkpoint use `apr eval`"
    exit_code = EXIT_NO_ANSWER
    option: str
    globs: str
    num_tensors: int


@dataclass(kw_only=True, eq=False)
class LoraNeedsInit(AprError):
    """`--lora` without a checkpoint: random weights would stay random."""

    id = "APR684"
    text = "{option} {lora} freezes the weights, and without --init they are random"
    help = "give --init MODEL.apr, or leave --lora out"
    exit_code = EXIT_NO_ANSWER
    option: str
    lora: str


@dataclass(kw_only=True, eq=False)
class FreezeWithLora(AprError):
    """`--freeze` beside `--lora`, which freezes everything already."""

    id = "APR685"
    text = "{option} {globs} was given with --lora, which freezes every tensor of the model already"
    help = "leave one of them out; targets= of --lora says where adapters stand"
    exit_code = EXIT_NO_ANSWER
    option: str
    globs: str


@dataclass(kw_only=True, eq=False)
class FrozenChanged(AprError):
    """A frozen tensor is not what it was when the run began."""

    id = "APR686"
    text = "{tensor} is frozen, and after step {step} it is not what it was before step 1"
    help = "report it: something wrote to it beside the optimizer; the checkpoint before is intact"
    tensor: str
    step: int


@dataclass(kw_only=True, eq=False)
class MergeDiffers(AprError):
    """The merged weights do not compute what base and adapters do."""

    id = "APR687"
    text = "the merge of the adapters after step {step} is wrong: {defect}"
    help = "report it: nothing was saved of this step; the checkpoint before is intact"
    step: int
    defect: str
