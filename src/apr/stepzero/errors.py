"""Refusals of step zero."""

from __future__ import annotations

from dataclasses import dataclass

from apr.base.errors import EXIT_NO_ANSWER, AprError


@dataclass(kw_only=True, eq=False)
class ReferenceMalformed(AprError):
    """The reference recorded in a file cannot be read."""

    id = "APR501"
    text = "the reference recorded in {source} is unusable: {reason}"
    help = "import the checkpoint again from its source"
    source: str
    reason: str


# What to do about a gate's no, by its id or by the first part of it.
_REMEDIES = {
    "tokens.split": "keep validation text out of the training text, or name another --val-shard",
    "file": "import the checkpoint again from its source",
    "model": "this is the program and not the file: report it",
    "update": "this is the program and not the file: report it",
    "update.changes": "give a greater --lr where it is lost in rounding; else report it",
    "update.gradients": "look for weights that are zero, or for an option that stops the gradient; else report it",
    "data": "report it",
    "resume": "go on where the run began, with what it began with, or start a new run",
    "log": "find out what the message means for this run, and report it",
    "tokens.statistics": "decode some documents and look at them; then encode the corpus again",
    "weights.values": "get the checkpoint anew, or give --accept to `apr import` if it is meant to be so",
    "weights": "run it again; if it stays, import the checkpoint again from its source",
    "reference": "weights, config or program are not those of the import; import again from the source",
    "tokens": "encode the corpus again with the model's own tokenizer",
    "loss": "check that this is the checkpoint you mean, and that the validation text is of the kind it knows",
    "optimizer": "report it",
}
# The same in another program's loop, where module, loss and optimizer are not ours.
_GUARDED_REMEDIES = {
    "weights": "load the checkpoint into this module, after everything that initialises or converts it",
    "model.repeatable": "switch it off, or give Planned(dropout=True) where it is meant",
    "model": "build the module from the checkpoint's own config",
    "reference": "look at what the module computes: its config, attention, head and loss",
    "tokens": "encode the text with the checkpoint's own tokenizer",
    "data": "give labels as the loss takes them, and labels_shifted=True where they are shifted already",
    "loss": _REMEDIES["loss"],
    "optimizer": "make the optimizer anew from this module's parameters, with the settings that are planned",
    "update": "look at the loss, at what is frozen, and at the optimizer's settings",
    "log": "find out what the message means for this run, and do away with it",
}
_GUARDED_HELP = "nothing was trained, and everything is as it was; the certificate has every figure"


@dataclass(kw_only=True, eq=False)
class StepZeroRefused(AprError):
    """A gate of step zero answered no; no step was taken and no checkpoint written."""

    id = "APR502"
    text = "step zero refused the run at its gate {gate}: {cause} (found {figure}, limit {limit})"
    help = "nothing was trained, and certificate.json in the run directory has every figure"
    gate: str
    cause: str
    figure: str
    limit: str
    guarded: bool = False  # whether it is another program's loop

    @property
    def advice(self) -> str:
        """What to do about this gate, and where its figures are."""
        remedies = _GUARDED_REMEDIES if self.guarded else _REMEDIES
        remedy = remedies.get(self.gate) or remedies.get(self.gate.partition(".")[0])
        kept = _GUARDED_HELP if self.guarded else super().advice
        return "; ".join(part for part in (remedy, kept) if part)


@dataclass(kw_only=True, eq=False)
class StepZeroIncomplete(AprError):
    """Gates that a certificate must hold were not judged."""

    id = "APR504"
    text = "step zero ended without judging {gates}, so nothing is certified"
    help = "report it; nothing was trained"
    gates: str


@dataclass(kw_only=True, eq=False)
class LibraryWarned(AprError):
    """A library warned of something that no gate is known to judge."""

    id = "APR505"
    text = "while the reference was recorded, {source} said: {said}"
    help = "find out what that means for this checkpoint, and report it; nothing was written"
    source: str
    said: str


@dataclass(kw_only=True, eq=False)
class ReferenceNotFinite(AprError):
    """The forward pass of a checkpoint gives NaN or infinite values."""

    id = "APR506"
    text = "{where} is NaN or infinite when {oracle} runs the probe through these weights"
    help = "look for weights that are far too large, or a scale that was applied twice; nothing was written"
    where: str
    oracle: str


@dataclass(kw_only=True, eq=False)
class NamesCollide(AprError):
    """A function that renames parameters gives two of them one name."""

    id = "APR507"
    text = "rename gives the parameters {first} and {second} one name, {name}"
    help = "give a function that keeps names apart; no step was taken"
    exit_code = EXIT_NO_ANSWER
    first: str
    second: str
    name: str


@dataclass(kw_only=True, eq=False)
class OracleFailed(AprError):
    """The independent implementation could not compute the reference."""

    id = "APR503"
    text = "the transformers library could not compute the reference: {reason}"
    help = "give --oracle self to record our own figures (grade B), or --oracle none (grade C)"
    reason: str
