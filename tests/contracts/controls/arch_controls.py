"""The controls of FALSIFY-APR-PRETRAIN-ARCH-001 to -010 and CUDA-001."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from apr.aprfile import foreign, metadata
from apr.convert import hf_config, importer
from apr.model import decoder, initialise
from apr.tokenizer.engine import TextTokenizer
from apr.train import inputs
from contracts.controls import shape_plants
from contracts.controls.arch_plants import (
    LOADER_DEFAULTS,
    always_a_decoder,
    bound_only_from_scratch,
    cuda_ignores_init,
    equal_sizes_demanded,
    field_from_default,
    fixed_epsilon,
    hashes_not_compared,
    names_not_looked_at,
    nobody_reads_the_text,
    preset,
    repeat,
    rounded_on_cuda,
    sees_the_future,
    vocabulary_not_checked,
)
from contracts.controls.init_plants import attribute, refused_and_seen
from contracts.controls.plant import ARCH, Control, allocate_first, fall_back_to_random, fill_in

# Every field of the preset, with a value that a wrong preset has had or might have.
_WRONG_PRESET: dict[str, Any] = {
    "tie_word_embeddings": False,  # the ancestor's
    "family": "llama",
    "vocab_size": 151643,
    "hidden_size": 1024,
    "intermediate_size": 4864 * 2,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 14,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "hidden_act": "gelu",
    "attention_bias": False,
    "sliding_window": 32768,
}

_RANDOM = "a checkpoint that does not load is replaced by random weights"

_STRICT = Control(
    defect="with a checkpoint too the sizes must be equal",
    sees="exit code 1|refused before step zero",
    plant=equal_sizes_demanded,
)

ARCH_CONTROLS: dict[str, tuple[Control, ...]] = {
    ARCH + "001": tuple(
        Control(
            defect=f"the preset has {field} {value}",
            sees=f"{field} is {value!r}",
            plant=preset("qwen2-0.5b", **{field: value}),
        )
        for field, value in _WRONG_PRESET.items()
    ),
    ARCH + "002": (
        Control(
            defect="another architecture is the default",
            sees="exit code",
            plant=attribute(inputs, "DEFAULT_ARCH", "tiny"),
        ),
        Control(
            defect="the baseline is untied",
            sees="tie_word_embeddings is False",
            plant=preset("llama-370m", tie_word_embeddings=False),
        ),
        Control(
            defect="the baseline has another epsilon",
            sees="rms_norm_eps is 1e-06",
            plant=preset("llama-370m", rms_norm_eps=1e-6),
        ),
        Control(
            defect="random weights have another spread",
            sees="starts at",
            plant=attribute(initialise, "_STD", 0.021),
        ),
    ),
    ARCH + "003": (
        *(
            Control(
                defect=f"{field} is a default and not the file's",
                sees="nothing varied: (exit code 1|theta|max_position|rms_norm)",
                plant=field_from_default(field),
            )
            for field in LOADER_DEFAULTS
        ),
        Control(
            defect="missing fields get defaults",
            sees="the command exited 0|refused as",
            plant=fill_in(LOADER_DEFAULTS, metadata, foreign),
        ),
    ),
    ARCH + "004": (
        Control(
            defect="key-value heads are repeated in the wrong order",
            sees="cosine with multi-head attention",
            plant=lambda patch, scene: patch.setattr(Tensor, "repeat_interleave", repeat),
        ),
        Control(
            defect="rope turns neighbours",
            sees="with transformers",
            plant=attribute(decoder, "rotate", shape_plants.neighbours),
        ),
        Control(
            defect="rope is left out",
            sees="with transformers",
            plant=attribute(decoder, "rotate", shape_plants.no_rotation),
        ),
        Control(defect="attention sees the future", sees="with transformers", plant=sees_the_future),
        Control(
            defect="biases are left out",
            sees="with transformers",
            plant=attribute(decoder.Linear, "forward", shape_plants.without_bias),
        ),
        Control(defect="the norms have a fixed epsilon", sees="with transformers", plant=fixed_epsilon),
    ),
    ARCH + "005": (
        _STRICT,
        Control(
            defect="added tokens are not counted",
            sees="compared",
            plant=attribute(inputs, "TextTokenizer", shape_plants.base_only(TextTokenizer)),
        ),
    ),
    ARCH + "006": (
        Control(
            defect="shards of any tokenizer are taken",
            sees="refused as APR409, not as APR622",  # an id that the tokenizer at hand does not have
            plant=hashes_not_compared,
        ),
        Control(
            defect="shards of any tokenizer are taken and their text is not looked at",
            sees="the command exited 0",
            plant=nobody_reads_the_text,
        ),
        Control(
            defect="from scratch too a smaller tokenizer is taken",
            sees="the command exited 0",
            plant=bound_only_from_scratch,
        ),
        Control(defect="a model is built first", sees="allocated before the refusal", plant=allocate_first),
    ),
    ARCH + "007": (
        Control(defect="tensor names are not looked at", sees="lacks 'encoder'", plant=names_not_looked_at),
        Control(
            defect="every config is taken for a decoder's",
            sees="import: ",
            plant=attribute(hf_config, "_family", always_a_decoder),
        ),
        Control(defect=_RANDOM, sees="the command exited 0", plant=fall_back_to_random),
        Control(defect="a model is built first", sees="allocated before the refusal", plant=allocate_first),
    ),
    ARCH + "009": (_STRICT,),
    ARCH + "010": (
        Control(
            defect="entries are counted and ids are not looked at",
            sees="refused as APR226, not as APR621",  # it trains, and only its checkpoint cannot be written
            plant=attribute(inputs, "TextTokenizer", shape_plants.counts_only(TextTokenizer)),
        ),
        Control(
            defect="the vocabulary is not checked", sees="exited 0|refused as", plant=vocabulary_not_checked
        ),
        Control(
            defect="import does not check it",
            sees="import: ",
            plant=attribute(importer, "_require_rows", lambda tokenizer, config: None),
        ),
    ),
    ARCH + "CUDA-001": (
        Control(
            defect="the CUDA builder ignores the checkpoint", sees="did not come to", plant=cuda_ignores_init
        ),
        *refused_and_seen(
            "weights on CUDA are rounded", "weights.memory", "is not the file's", rounded_on_cuda
        ),
    ),
}
