"""The plan: every number of a run, concrete, with its source, and a digest. Pure: no file, no device."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from apr.arch.config import TransformerConfig
from apr.arch.errors import LoraUnsupported
from apr.arch.lora import parse_lora
from apr.base.errors import BadOption
from apr.base.files import canonical_json, sha256_bytes
from apr.train.errors import SequenceBeyondModel, TooFewWindows
from apr.train.schedule import SCHEDULES, learning_rate
from apr.train.spec import RunSpec, option_of
from apr.train.spikes import SPIKE_LIMIT, SPIKE_WORDS

# The mode flips these together; an explicit option wins over it.
MODES: dict[str, dict[str, Any]] = {
    "finetune": {"lr": 5e-5, "warmup_steps": 100, "target_val_loss": 2.2},
    "from-scratch": {"lr": 3e-4, "warmup_steps": 1000, "target_val_loss": 3.0},
}
_DEFAULTS: dict[str, Any] = {
    "mode": "finetune",
    "num_steps": 1000,
    "batch_size": 16,
    "seq_length": 1024,
    "grad_accum": 1,
    "steps_per_epoch": 100,
    "weight_decay": 0.01,
    "betas": (0.9, 0.95),
    "grad_clip": 1.0,
    "schedule": "cosine",
    "seed": 42,
    "device": "auto",
    "dtype": "auto",
    "keep": "all",
    "save": "background",
    "freeze": (),
    "lora": "",
    "spike": "off",
    "spike_threshold": 6.0,
    "spike_window": 128,
    "val_tokens": 8192,  # about 30 s for a 0.5B model on two cores; standard error some 0.05 nat
}
_KEEP = re.compile(r"all|last:[1-9][0-9]{0,8}(,best)?")
DEFAULT_ARCH = "llama-370m"
PATIENCE_EPOCHS = 2  # INV-TRAIN-004
FIRST_PATIENT_EPOCH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """Every resolved number of a run."""

    mode: str
    num_steps: int
    batch_size: int  # sequences of a micro-batch
    seq_length: int  # tokens of a window
    grad_accum: int  # micro-batches of an update
    steps_per_epoch: int  # updates between validations
    lr: float  # peak
    warmup_steps: int
    target_val_loss: float  # nats
    weight_decay: float
    betas: tuple[float, float]
    grad_clip: float  # global norm; 0 switches it off
    schedule: str
    seed: int
    device: str
    dtype: str
    val_tokens: int  # validation tokens at most
    keep: str  # checkpoints that stay: all, or last:N with or without ,best
    save: str  # background (a second copy of weights and moments while it is written) or blocking
    freeze: tuple[str, ...]  # globs of tensors that are not trained
    lora: str  # adapters that are trained instead of the weights: r, alpha, targets; empty for none
    spike: str  # off, abort or skip:N; see apr.train.spikes
    spike_threshold: float  # robust standard deviations above the median
    spike_window: int  # updates that a step is held against
    allow_shard_cycle: bool
    document_mask: bool  # attention stays inside a document, in training and in validation
    external_validation: bool  # validated on --val-shard, not on the dataset's own split
    from_init: bool
    synthetic: bool
    sources: dict[str, str]  # value name -> where it came from

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """The plan that `to_dict` spelled.

        Raises:
            ValueError: a value is missing, unknown, of another kind or impossible.
        """
        kinds: dict[str, Any] = {"int": int, "float": int | float, "str": str, "bool": bool}
        kinds |= dict.fromkeys(("tuple[float, float]", "tuple[str, ...]"), list)
        try:
            values = {name: entry["value"] for name, entry in document["values"].items()}
            sources = {name: entry["source"] for name, entry in document["values"].items()}
            tuples = {name: tuple(values[name]) for name in ("betas", "freeze")}
            plan = cls(**{**values, **tuples}, sources=sources)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        for field in fields(cls):
            if field.name != "sources" and not isinstance(values[field.name], kinds[str(field.type)]):
                raise ValueError(f"{field.name} is {values[field.name]!r}")
        try:
            _check_ranges(values)
            if values["lora"]:
                parse_lora(values["lora"])
        except (BadOption, LoraUnsupported) as error:
            raise ValueError(error.message) from error
        return plan

    @property
    def windows_per_step(self) -> int:
        """Windows that one update consumes."""
        return self.batch_size * self.grad_accum

    @property
    def num_windows(self) -> int:
        """Windows that the run consumes."""
        return self.num_steps * self.windows_per_step

    @property
    def num_epochs(self) -> int:
        """Validations of the run; the last epoch may be short."""
        return math.ceil(self.num_steps / self.steps_per_epoch)

    def learning_rate(self, step: int) -> float:
        """The learning rate of update `step`, 0 for the first."""
        return learning_rate(
            step,
            peak=self.lr,
            warmup_steps=self.warmup_steps,
            num_steps=self.num_steps,
            schedule=self.schedule,
        )

    def to_dict(self) -> dict[str, Any]:
        """{values: {name: {value, source}}, digest}."""
        return {
            "format": "apr-plan-1",
            "values": {
                name: {"value": value, "source": self.sources[name]} for name, value in self._values().items()
            },
            "digest": self.digest,
        }

    @property
    def digest(self) -> str:
        """SHA-256 over the values: two runs with the same digest and inputs are the same run."""
        return sha256_bytes(canonical_json(self._values()))

    def _values(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "sources"}
        return {**values, "betas": list(self.betas), "freeze": list(self.freeze)}


def resolve(spec: RunSpec) -> RunPlan:
    """Give every value its number and its source.

    Raises:
        BadOption: a value is out of range.
        LoraUnsupported: `--lora` asks for what there is not.
    """
    mode = spec.mode or _DEFAULTS["mode"]
    if mode not in MODES:
        raise BadOption(option=spec.source_of("mode"), value=str(mode), limit=" or ".join(MODES))
    # The mode's values stand where the mode itself stands.
    by_mode = f"{spec.places['mode']} {mode}" if "mode" in spec.places else f"--mode {mode}"
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name in (*_DEFAULTS, *MODES[mode]):
        asked = getattr(spec, name)
        if asked is not None:
            values[name], sources[name] = asked, spec.source_of(name)
        elif name in MODES[mode]:
            values[name], sources[name] = MODES[mode][name], by_mode
        else:
            values[name], sources[name] = _DEFAULTS[name], "default"
    for name, field_name, value in (
        ("allow_shard_cycle", "allow_shard_cycle", spec.allow_shard_cycle),
        ("document_mask", "document_mask", spec.document_mask),
        ("external_validation", "val_shard", spec.val_shard is not None),
        ("from_init", "init", spec.init is not None),
        ("synthetic", "synthetic", spec.synthetic),
    ):
        is_asked = value or field_name in spec.places
        values[name], sources[name] = value, spec.source_of(field_name) if is_asked else "default"
    _check_ranges(values, spec.source_of)
    if spec.lora is not None:
        values["lora"] = str(parse_lora(spec.lora, spec.source_of("lora")))
    return RunPlan(**values, sources=sources)


def _check_ranges(values: Mapping[str, Any], source_of: Callable[[str], str] = option_of) -> None:
    def require(name: str, holds: bool, limit: str) -> None:
        if not holds:
            raise BadOption(option=source_of(name), value=str(values[name]), limit=limit)

    require("num_steps", values["num_steps"] >= 0, "a whole number from 0")
    require("warmup_steps", values["warmup_steps"] >= 0, "a whole number from 0")
    require("seed", 0 <= values["seed"] < 2**63, "a whole number from 0 to 2^63 - 1")
    for name in ("batch_size", "grad_accum", "steps_per_epoch", "val_tokens"):
        require(name, values[name] >= 1, "a whole number from 1")
    # A token alone attends to nothing but itself: queries and keys would get no gradient at all.
    require("seq_length", values["seq_length"] >= 2, "a whole number from 2")
    require("spike", bool(SPIKE_WORDS.fullmatch(values["spike"])), SPIKE_LIMIT)
    require("spike_window", values["spike_window"] >= 4, "a whole number from 4")
    for name in ("lr", "target_val_loss", "spike_threshold"):
        require(name, 0 < values[name] < math.inf, "a finite number above 0")
    for name in ("weight_decay", "grad_clip"):
        require(name, 0 <= values[name] < math.inf, "a finite number from 0")
    require("betas", all(0 <= beta < 1 for beta in values["betas"]), "two numbers from 0 to below 1")
    require("schedule", values["schedule"] in SCHEDULES, " or ".join(SCHEDULES))
    require("save", values["save"] in ("background", "blocking"), "background or blocking")
    require("keep", bool(_KEEP.fullmatch(values["keep"])), "all, last:N or last:N,best")
    require("freeze", all(isinstance(glob, str) and glob for glob in values["freeze"]), "names or globs")
    require("dtype", values["dtype"] in ("auto", "fp32", "bf16"), "auto, fp32 or bf16")


def check_fit(plan: RunPlan, config: TransformerConfig, *, dataset: str, available_windows: int) -> None:
    """Check the plan against the model and the corpus.

    Raises:
        SequenceBeyondModel: the window is longer than the model attends over.
        TooFewWindows: the corpus is shorter than the run, and repeating it was not allowed.
    """
    name, limit = config.sequence_limit
    if plan.seq_length > limit:
        raise SequenceBeyondModel(seq_length=plan.seq_length, limit_name=name, limit=limit)
    if plan.num_windows > available_windows and not plan.allow_shard_cycle:
        raise TooFewWindows(
            num_steps=plan.num_steps,
            needed=plan.num_windows,
            seq_length=plan.seq_length,
            path=dataset,
            available=available_windows,
        )


def plan_warnings(spec: RunSpec, plan: RunPlan) -> list[str]:
    """What is allowed and probably not meant."""
    warnings = []
    if plan.mode == "from-scratch" and plan.from_init:
        warnings.append(
            f"--mode from-scratch with --init: the checkpoint is trained at lr {plan.lr:g}, chosen for random weights"
        )
    if plan.mode == "finetune" and not plan.from_init and spec.mode is None:
        warnings.append("no --init: random weights are trained with the values of --mode finetune")
    if 0 < plan.num_steps < plan.warmup_steps:
        warnings.append(
            f"the warm-up of {plan.warmup_steps:,} steps outlasts the run of {plan.num_steps:,}: "
            f"the learning rate never reaches {plan.lr:g}"
        )
    return warnings
