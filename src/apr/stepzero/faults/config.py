"""Faults of the config inside an `.apr` file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apr.stepzero.faults.aprfiles import Contents, rewriting
from apr.stepzero.faults.fault import Fault

_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_LINEAR = {
    "rope_type": "linear",
    "factor": 1.05,
    "low_freq_factor": None,
    "high_freq_factor": None,
    "original_max_position_embeddings": None,
}


def _fault(
    name: str, gate: str, says: str, edit: Callable[[Contents], None], imitates: tuple[str, ...], **more: Any
) -> Fault:
    return Fault(
        id=f"config.{name}",
        imitates=imitates,
        place="config",
        gate=gate,
        says=says,
        edit=rewriting(edit),
        **more,
    )


def _everywhere(**changes: Any) -> Callable[[Contents], None]:
    return lambda contents: contents.set_config(**changes)


def _times(field: str, factor: float) -> Callable[[Contents], None]:
    return lambda contents: contents.set_config(**{field: contents.config[field] * factor})


def _only_ours(**changes: Any) -> Callable[[Contents], None]:
    return lambda contents: contents.config.update(changes)


def _without(field: str) -> Callable[[Contents], None]:
    return lambda contents: contents.config.pop(field) and None


def _other_eps(contents: Contents) -> None:
    before = contents.config["rms_norm_eps"]
    contents.set_config(rms_norm_eps=1e-5 if before == 1e-6 else 1e-6)


def _other_heads(contents: Contents) -> None:
    """Twice the heads of half the width: every shape stays, and the model is another."""
    config = contents.config
    contents.set_config(
        num_attention_heads=config["num_attention_heads"] * 2,
        num_key_value_heads=config["num_key_value_heads"] * 2,
        head_dim=config["head_dim"] // 2,
    )


def _flip(field: str) -> Callable[[Contents], None]:
    return lambda contents: contents.set_config(**{field: not contents.config[field]})


def _twins(contents: Contents) -> None:
    """Two spellings of one key that differ, of which readers take the one or the other."""
    contents.metadata["d_model"] = contents.config["hidden_size"] * 2


def _layer_less(contents: Contents) -> None:
    contents.set_config(num_hidden_layers=contents.config["num_hidden_layers"] - 1)


CONFIG_FAULTS: tuple[Fault, ...] = (
    _fault("rope-base-dropped", "reference.blocks", "the rope base had been dropped, and 10,000 taken for it",
           _everywhere(rope_theta=1e4), ("S-34", "S-125"), needs=lambda c: c.rope_theta != 1e4, quick=True),
    _fault("rope-base-doubled", "reference.blocks", "the rope base was twice what it was", _times("rope_theta", 2.0),
           ("S-53", "S-125")),
    _fault("rope-base-said-twice", "file.config", "the file named two rope bases", _only_ours(rope_theta=5e3), ("S-125",),
           quick=True),
    _fault("rope-base-missing", "file.config", "the config did not name a rope base", _without("rope_theta"), ("S-34",),
           quick=True),
    _fault("rope-scaling-linear", "reference.blocks", "a linear rope scaling by 1.05 had been added",
           _everywhere(rope_scaling=_LINEAR), ("S-125",)),
    _fault("rope-scaling-llama3", "reference.blocks", "a rope scaling of Llama 3 had been added",
           _everywhere(rope_scaling=_LLAMA3), ("S-125",)),
    _fault("other-epsilon", "reference.blocks", "the norms' epsilon was that of another family", _other_eps,
           ("S-34", "S-52")),
    _fault("epsilon-missing", "file.config", "the config did not name the norms' epsilon", _without("rms_norm_eps"),
           ("S-34",)),
    _fault("heads-doubled", "reference.blocks", "the config named twice the heads, of half the width", _other_heads,
           ("S-34", "S-125")),
    _fault("groups-wrong", "file.config", "the config named another number of key-value heads",
           _everywhere(num_key_value_heads=1), ("S-34",), needs=lambda c: c.num_key_value_heads > 1),
    _fault("tie-flipped", "file.config", "the config said the opposite of the head's tie", _flip("tie_word_embeddings"),
           ("S-27", "S-28"), quick=True),
    _fault("biases-flipped", "file.config", "the config said the opposite of the biases", _flip("attention_bias"),
           ("S-30", "S-33")),
    _fault("activation", "file.config", "the config named another activation", _everywhere(hidden_act="gelu"), ("S-125",)),
    _fault("unknown-key", "file.config", "the config had a key that nothing reads", _only_ours(qk_norm=True),
           ("S-09", "S-56")),
    _fault("layer-less", "file.config", "the config named one layer less", _layer_less, ("S-34",)),
    _fault("other-family", "file.config", "the stamp was another family's", _only_ours(family="mistral"), ("S-35", "S-82")),
    _fault("sliding-window", "plan.arguments", "a window of 16 tokens had been switched on",
           _everywhere(sliding_window=16), ("S-125",)),
    _fault("two-spellings", "file.config", "two spellings of the hidden size differed", _twins, ("S-34", "S-82")),
    _fault("vocabulary", "file.config", "the config named a smaller vocabulary", _everywhere(vocab_size=100), ("S-20",)),
)  # fmt: skip
