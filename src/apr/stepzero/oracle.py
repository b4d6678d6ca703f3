"""The independent reference: the transformers library computing on the tensors that go into a file.

The model class is built from our config and filled with those tensors, so that the comparison judges the forward
pass. The import itself is judged elsewhere, by reading the source a second way.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apr.arch.config import TransformerConfig
from apr.arch.inventory import EMBEDDING, HEAD
from apr.base.errors import ExtraMissing
from apr.stepzero.errors import OracleFailed
from apr.stepzero.reference import Reference, Trace, record


def require_oracle() -> None:
    """Check that transformers is installed, before any work is done.

    Raises:
        ExtraMissing: it is not.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ExtraMissing(
            feature="--oracle transformers",
            package="transformers",
            extra="oracle",
            instead="give --oracle self (grade B) or --oracle none (grade C)",
        )


def record_with_transformers(
    config: TransformerConfig, tensors: Mapping[str, np.ndarray], probe_ids: list[int]
) -> Reference:
    """Record a grade A reference.

    Args:
        config: of the model.
        tensors: the tensors as stored, widened to fp32, by name; read one at a time.
        probe_ids: the probe.

    Raises:
        OracleFailed: transformers refused the config or the tensors.
    """
    import transformers  # 2 s and an optional extra: only `apr import` and tests come here

    try:
        model = build_transformers_model(config, tensors)
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        first_line = str(error).partition("\n")[0]
        raise OracleFailed(reason=f"{type(error).__name__}: {first_line}") from error
    oracle = f"transformers {transformers.__version__}, {type(model).__name__}, eager attention, fp32"
    return record(trace_transformers(model), probe_ids, grade="A", oracle=oracle)


def hugging_face_config(config: TransformerConfig) -> Any:
    """Spell our config as the transformers config object of its family."""
    from transformers import LlamaConfig, Qwen2Config

    # The new spelling: theta and scaling in one mapping.
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling is not None:
        scaling = config.to_dict()["rope_scaling"]
        rope |= {key: value for key, value in scaling.items() if value is not None}
    shared: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "hidden_act": config.hidden_act,
        "tie_word_embeddings": config.tie_word_embeddings,
        "rope_parameters": rope,
    }
    return Qwen2Config(**shared) if config.family == "qwen2" else LlamaConfig(**shared, attention_bias=False)


def build_transformers_model(
    config: TransformerConfig, tensors: Mapping[str, np.ndarray], attention: str = "eager"
) -> Any:
    """Build the transformers model class of a config and fill it with tensors, fp32 on the CPU.

    Args:
        config: of the model.
        tensors: fp32 by name; read one at a time.
        attention: its implementation; `eager` is another kernel than ours.

    Raises:
        ValueError, KeyError, RuntimeError: the tensors are not those of the class.
    """
    from transformers import LlamaForCausalLM, Qwen2ForCausalLM

    spelled = hugging_face_config(config)
    spelled._attn_implementation = attention
    kind = Qwen2ForCausalLM if config.family == "qwen2" else LlamaForCausalLM
    with torch.device("meta"):
        model = kind(spelled)
    model.to_empty(device="cpu")
    _fill(model, config, tensors)
    # to_empty left the rope buffers undefined; the class computes them anew from its config.
    model.model.rotary_emb = type(model.model.rotary_emb)(config=spelled)
    return model.float().eval()


@torch.no_grad()
def _fill(model: Any, config: TransformerConfig, tensors: Mapping[str, np.ndarray]) -> None:
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in parameters.items():
        source = EMBEDDING if name == HEAD and config.tie_word_embeddings else name
        value = tensors[source]
        if value.shape != tuple(parameter.shape):  # copy_ would broadcast it
            raise ValueError(f"{source} is {list(value.shape)}, not {list(parameter.shape)}")
        parameter.copy_(torch.from_numpy(np.array(value)))
    if left := set(tensors) - set(parameters):
        raise ValueError(f"{len(left)} tensors have no place in {type(model).__name__}, such as {min(left)}")


def trace_transformers(model: Any) -> Trace:
    """Make the trace function of a transformers causal language model."""

    def trace(ids_BT: Tensor, observe: Callable[[str, Tensor], None]) -> Tensor:
        def hook(name: str) -> Callable[..., None]:
            return lambda _module, _args, out: observe(name, out[0] if isinstance(out, tuple) else out)

        handles = [model.model.embed_tokens.register_forward_hook(hook("embedding"))]
        handles += [b.register_forward_hook(hook(f"block.{i}")) for i, b in enumerate(model.model.layers)]
        handles.append(model.model.norm.register_forward_hook(hook("final_norm")))
        try:
            with torch.no_grad():
                logits: Tensor = model(ids_BT, use_cache=False).logits
        finally:
            for handle in handles:
                handle.remove()
        return logits.float()

    return trace
