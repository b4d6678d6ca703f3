"""The settings of a run as a file or `--set` names them: section, key, kind. One table, which the docs print too.

A key is the option's own name with underscores, and the field of RunSpec: one quantity has one name.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apr.arch.presets import PRESETS
from apr.train.spec import option_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a setting takes. `read` turns a parsed value into the field's, or gives None where it is another kind."""

    says: str
    read: Callable[[Any, Path], Any]  # the value, and the folder that paths are relative to
    is_text: bool = False  # a value of --set without quotes is taken as it stands


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: `field` of RunSpec, written as `section.field`."""

    section: str
    field: str
    kind: Kind

    @property
    def key(self) -> str:
        """`section.field`."""
        return f"{self.section}.{self.field}"

    @property
    def option(self) -> str:
        """The option that sets the same field."""
        return option_of(self.field)


def _whole(value: Any, folder: Path) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any, folder: Path) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number of four hundred digits
        return math.inf


def _pair(value: Any, folder: Path) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    first, second = (_number(item, folder) for item in value)
    return None if first is None or second is None else (first, second)


def _switch(value: Any, folder: Path) -> bool | None:
    return value if isinstance(value, bool) else None


def _word(value: Any, folder: Path) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: Any, folder: Path) -> tuple[str, ...] | None:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(item, str) and item for item in listed):
        return None
    return tuple(listed)


def words(value: Any, folder: Path = Path()) -> tuple[str, ...] | None:
    """Words with commas between them, or a list of such."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(item, str) for item in listed):
        return None
    return tuple(word.strip() for item in listed for word in item.split(",")) or None


def _path(value: Any, folder: Path) -> Path | None:
    # pathlib takes a null character, and the system then refuses it without a sentence.
    return folder / value if isinstance(value, str) and value and "\0" not in value else None


def _preset_or_path(value: Any, folder: Path) -> str | None:
    if not isinstance(value, str):
        return None
    return value if value in PRESETS or not value.endswith(".json") else str(folder / value)


WHOLE = Kind(says="a whole number", read=_whole)
NUMBER = Kind(says="a number", read=_number)
TEXTS = Kind(says="a name or glob in quotes, or a list of them", read=_texts)
PAIR = Kind(says="two numbers, such as [0.9, 0.95]", read=_pair)
SWITCH = Kind(says="true or false", read=_switch)
WORD = Kind(says="a word in quotes", read=_word, is_text=True)
WORDS = Kind(says='words in quotes, such as "tensorboard,wandb"', read=words, is_text=True)
PATH = Kind(says="a path in quotes", read=_path, is_text=True)
PRESET_OR_PATH = Kind(
    says="a preset's name or the path of a .json file, in quotes", read=_preset_or_path, is_text=True
)

_SECTIONS: dict[str, dict[str, Kind]] = {
    "model": {"init": PATH, "arch": PRESET_OR_PATH, "tokenizer": PATH, "freeze": TEXTS, "lora": WORD},
    "data": {
        "dataset": PATH,
        "val_shard": PATH,
        "val_tokens": WHOLE,
        "batch_size": WHOLE,
        "seq_length": WHOLE,
        "grad_accum": WHOLE,
        "allow_shard_cycle": SWITCH,
        "document_mask": SWITCH,
    },
    "optimizer": {
        "lr": NUMBER,
        "warmup_steps": WHOLE,
        "schedule": WORD,
        "weight_decay": NUMBER,
        "betas": PAIR,
        "grad_clip": NUMBER,
        "spike": WORD,
        "spike_threshold": NUMBER,
        "spike_window": WHOLE,
    },
    "run": {
        "run_dir": PATH,
        "mode": WORD,
        "num_steps": WHOLE,
        "steps_per_epoch": WHOLE,
        "target_val_loss": NUMBER,
        "seed": WHOLE,
        "keep": WORD,
        "save": WORD,
        "log": WORDS,
        "device": WORD,
        "dtype": WORD,
        "synthetic": SWITCH,
    },
}
SETTINGS: dict[str, Setting] = {
    f"{section}.{field}": Setting(section=section, field=field, kind=kind)
    for section, kinds in _SECTIONS.items()
    for field, kind in kinds.items()
}


def nearest_setting(key: str) -> str:
    """The setting that a misspelled key most likely means: by its name first, whatever the section."""
    name = key.rpartition(".")[2].replace("-", "_")
    by_name = {setting.field: known for known, setting in SETTINGS.items()}
    close = [by_name[found] for found in difflib.get_close_matches(name, by_name, n=1, cutoff=0.75)]
    return [*close, *difflib.get_close_matches(key, SETTINGS, n=1, cutoff=0.0)][0]
