"""Every gate of step zero, in order, and the errors that are a gate's "no".

What can be judged while a file is read is refused there, by an error of its own that names the defect better than a
gate could. This table says which gate such an error speaks for, so that a fault and the gate that must catch it can be
matched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# When a gate is judged: while importing; while reading the inputs of a run; in step zero; in the loop or on saving.
Stage = Literal["import", "inputs", "step zero", "resume", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gate, and the error ids that are its "no"; a gate without any answers with APR502."""

    id: str
    stage: Stage
    asks: str
    errors: tuple[str, ...] = ()


def _errors(*ranges: tuple[int, int]) -> tuple[str, ...]:
    return tuple(f"APR{number:03d}" for first, last in ranges for number in range(first, last + 1))


GATES: tuple[Gate, ...] = (
    Gate(id="source.files", stage="import", asks="exactly one set of weight files, whole, and an index that agrees",
         errors=_errors((801, 804), (812, 812))),
    Gate(id="source.config", stage="import", asks="every key of the config is known, and every needed one is there",
         errors=_errors((105, 105), (301, 305), (807, 811))),
    Gate(id="source.tensors", stage="import", asks="the tensors are those of the config, in known types, all finite",
         errors=_errors((321, 321), (805, 806), (813, 813), (820, 821))),
    Gate(id="source.tokenizer", stage="import", asks="the tokenizer loads, and every id has a row",
         errors=_errors((401, 406), (411, 415), (822, 822))),
    Gate(id="source.trust", stage="import", asks="the files have the digests that somebody else recorded",
         errors=_errors((823, 839))),
    Gate(id="plan.arguments", stage="inputs", asks="the options mean one thing",
         errors=_errors((1, 7), (101, 101), (306, 307), (324, 324), (601, 604), (606, 606), (626, 626), (661, 661),
                        (681, 685))),
    Gate(id="file.container", stage="inputs", asks="header, footer, sizes and the digest of every tensor hold",
         errors=_errors((201, 220), (222, 222))),
    Gate(id="file.config", stage="inputs", asks="the config is complete, said once, and agrees with the tensors",
         errors=_errors((226, 228), (230, 231), (301, 305), (501, 501))),
    Gate(id="weights.coverage", stage="inputs", asks="tensors of file and model are the same set, with the same shapes",
         errors=_errors((321, 321))),
    Gate(id="tokens.tokenizer", stage="inputs", asks="model, tokenizer and shards belong together",
         errors=_errors((229, 229), (621, 622), (624, 624))),
    Gate(id="tokens.shards", stage="inputs", asks="the shards are whole, and those of their manifest",
         errors=_errors((435, 447), (461, 461), (605, 605), (625, 625))),
    Gate(id="tokens.ids", stage="inputs", asks="every id has a row", errors=_errors((623, 623))),
    Gate(id="tokens.split", stage="step zero", asks="no window is both trained on and validated on"),
    Gate(id="tokens.sample", stage="step zero", asks="documents decoded and encoded again give the ids of the shards",
         errors=_errors((407, 409))),
    Gate(id="tokens.probe", stage="step zero", asks="the tokenizer gives the ids recorded at import"),
    Gate(id="tokens.statistics", stage="step zero", asks="the ids are distributed as those of text are"),
    Gate(id="tokens.eos", stage="step zero", asks="documents end with the tokenizer's own end-of-text id"),
    Gate(id="data.order", stage="step zero", asks="the first batches are the planned windows, shuffled, each once",
         errors=_errors((449, 449))),
    Gate(id="data.labels", stage="step zero", asks="labels are the tokens that follow their inputs, shifted once"),
    Gate(id="weights.memory", stage="step zero", asks="every parameter in memory has the digest of its tensor",
         errors=_errors((322, 323))),
    Gate(id="weights.values", stage="step zero", asks="no matrix is constant, and no two are the same"),
    Gate(id="adapters.start", stage="step zero", asks="every planned adapter is there, its A as seeded and its B zero"),
    Gate(id="model.built", stage="step zero", asks="the module's parts are those of the config"),
    Gate(id="model.placement", stage="step zero", asks="device and types are those asked for"),
    Gate(id="reference.blocks", stage="step zero", asks="every block's hidden state equals the reference"),
    Gate(id="reference.loss", stage="step zero", asks="the probe's loss equals the reference"),
    Gate(id="reference.training", stage="step zero", asks="the loss that training minimises equals the reference"),
    Gate(id="adapters.merge", stage="step zero", asks="merged weights compute what base and adapters do"),
    Gate(id="model.repeatable", stage="step zero", asks="two evaluations are equal bit for bit"),
    Gate(id="model.causal", stage="step zero", asks="a later token changes no earlier output"),
    Gate(id="model.rows", stage="step zero", asks="a sequence gives the same alone and in a batch"),
    Gate(id="data.documents", stage="step zero", asks="attention's boundaries are those of the dataset's documents"),
    Gate(id="model.documents", stage="step zero", asks="a token changes its own document, and no other"),
    Gate(id="loss.documents", stage="step zero", asks="a window's loss is that of its documents, each alone"),
    Gate(id="loss.random_init", stage="step zero", asks="random weights score near ln V"),
    Gate(id="loss.step0", stage="step zero", asks="the validation loss is neither too bad nor too good"),
    Gate(id="optimizer.settings", stage="step zero", asks="the model's own storages, with the plan's settings"),
    Gate(id="optimizer.schedule", stage="step zero", asks="the learning rate is the one that the options imply"),
    Gate(id="update.gradients", stage="step zero", asks="every trainable tensor has a finite gradient, used once"),
    Gate(id="update.changes", stage="step zero", asks="the update changes every trainable tensor and no other"),
    Gate(id="update.size", stage="step zero", asks="every element moves as rate, decay and clipped gradient imply"),
    Gate(id="update.loss", stage="step zero", asks="the loss that the loop logs is that of its tokens"),
    Gate(id="update.slope", stage="step zero", asks="the gradient is the slope of the loss"),
    Gate(id="optimizer.fresh", stage="step zero", asks="moments are zero before the first step"),
    Gate(id="weights.untouched", stage="step zero", asks="the weights that step 1 starts from are still the file's"),
    Gate(id="log.messages", stage="step zero", asks="what libraries warned of is judged by a gate",
         errors=_errors((505, 505))),
    Gate(id="resume.start", stage="resume", asks="plan, data, order, device and weights are those of the run's start",
         errors=_errors((631, 632), (634, 634))),
    Gate(id="resume.optimizer", stage="resume", asks="moments and step counts are those that were saved",
         errors=_errors((633, 633))),
    Gate(id="resume.subset", stage="resume", asks="frozen tensors and adapters are those that were saved"),
    Gate(id="resume.loss", stage="resume", asks="the validation loss is the one that was recorded"),
    Gate(id="run.steps", stage="run", asks="each step is finite, within bounds, and on the planned tokens",
         errors=_errors((611, 612), (614, 619), (662, 664))),
    Gate(id="checkpoint.saved", stage="run", asks="what was saved, read again, is what is in memory",
         errors=_errors((221, 221), (223, 225), (613, 613), (686, 687))),
    Gate(id="checkpoint.record", stage="run", asks="run directory, certificate and checkpoints tell one story",
         errors=_errors((520, 539))),
)  # fmt: skip

BY_ID = {gate.id: gate for gate in GATES}
# One error may be met twice: a config is read from a source folder and from an .apr file.
_BY_ERROR = {
    at_import: {
        error: gate.id for gate in GATES if (gate.stage == "import") == at_import for error in gate.errors
    }
    for at_import in (True, False)
}

# Judged from the weights of a checkpoint, so that a run from random weights has no use for them.
_OF_A_CHECKPOINT = (
    "file.container", "file.config", "weights.coverage", "weights.memory", "weights.values", "weights.untouched",
    "reference.blocks", "reference.loss", "reference.training", "tokens.probe",
)  # fmt: skip
_OF_AN_UPDATE = (
    "update.gradients", "update.changes", "update.size", "update.loss", "update.slope", "data.order",
)  # fmt: skip
# Judged once, when a run begins.
_OF_A_START = ("loss.random_init", "loss.step0", "optimizer.fresh", "weights.untouched", "adapters.merge")
# Judged where attention stays inside documents.
OF_DOCUMENTS = frozenset({"data.documents", "model.documents", "loss.documents"})

# Asked of another program's loop (`apr.stepzero.guard`); of our own, data.order says it of every token.
GUARDED_ONLY = frozenset({"data.labels"})


def gate_of_error(error_id: str, *, at_import: bool = False) -> str | None:
    """The gate that an error speaks for; None for one that judges nothing (a full disk, an interruption).

    Args:
        error_id: such as `APR219`.
        at_import: whether `apr import` met it, and not a run.
    """
    return _BY_ERROR[at_import].get(error_id) or _BY_ERROR[not at_import].get(error_id)


def required_gates(
    *,
    from_init: bool,
    has_reference: bool,
    has_tokenizer: bool,
    num_steps: int,
    is_resumed: bool = False,
    has_subset: bool = False,
    has_adapters: bool = False,
    document_mask: bool = False,
) -> frozenset[str]:
    """The gates that a certificate of a run must hold, so that one left out is noticed."""
    judged = {gate.id for gate in GATES if gate.stage in ("inputs", "step zero")}
    judged -= {"plan.arguments", "tokens.shards"}  # these only ever refuse
    judged -= GUARDED_ONLY
    if not document_mask:
        judged -= OF_DOCUMENTS
    if not from_init:
        judged -= set(_OF_A_CHECKPOINT)
    if not has_reference:
        judged -= {"reference.blocks", "reference.training"}
    if not has_tokenizer:
        judged -= {"tokens.tokenizer", "tokens.sample", "tokens.probe"}
    if num_steps == 0 or is_resumed:
        judged -= set(_OF_AN_UPDATE)
    if is_resumed:
        judged = (judged - set(_OF_A_START)) | {gate.id for gate in GATES if gate.stage == "resume"}
    if not has_subset:
        judged -= {"resume.subset"}
    if not has_adapters:
        judged -= {"adapters.start", "adapters.merge"}
    return frozenset(judged)
