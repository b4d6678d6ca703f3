from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from apr.convert.errors import RopeFactorsUnknown
from apr.convert.rope_factors import PUBLISHED, llama3_factors
from apr.convert.source import open_source


def transformers_factors(config, scaling):
    """The same divisors by transformers: plain inverse frequencies over scaled ones."""
    parameters = {
        "rope_type": "llama3",
        "rope_theta": config.rope_theta,
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_max_position_embeddings,
    }
    spelled = LlamaConfig(
        hidden_size=config.hidden_size,
        num_attention_heads=config.num_attention_heads,
        head_dim=config.head_dim,
        max_position_embeddings=131072,
        rope_parameters=parameters,
    )
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](spelled, torch.device("cpu"))
    plain = config.rope_theta ** (-np.arange(0, config.head_dim, 2) / config.head_dim)
    return (plain / scaled.double().numpy()).astype(np.float32)


@pytest.mark.parametrize("scaling", PUBLISHED, ids=lambda scaling: f"factor-{scaling.factor:g}")
def test_published_scaling_is_found_again(make_gguf, kit, scaling):
    factors = transformers_factors(kit.LLAMA, scaling)
    np.testing.assert_allclose(
        llama3_factors(scaling, kit.LLAMA.rope_theta, kit.LLAMA.head_dim), factors, rtol=1e-5
    )
    source = open_source(str(make_gguf(kit.LLAMA, extra={"rope_freqs.weight": (factors, "F32")})))
    assert source.config.rope_scaling == scaling


@pytest.mark.parametrize("spoil", [lambda f: f * 1.01, lambda f: f[:-1], lambda f: f * np.nan, np.ones_like])
def test_other_factors_are_refused(make_gguf, kit, spoil):
    factors = spoil(transformers_factors(kit.LLAMA, PUBLISHED[0])).astype(np.float32)
    with pytest.raises(RopeFactorsUnknown) as caught:
        open_source(str(make_gguf(kit.LLAMA, extra={"rope_freqs.weight": (factors, "F32")})))
    assert caught.value.tensor == "rope_freqs.weight"
