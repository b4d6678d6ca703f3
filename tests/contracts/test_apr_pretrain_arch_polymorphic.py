"""FALSIFY-APR-PRETRAIN-ARCH-001 to -007, -009, -010, CUDA-001.

contracts/apr-pretrain-arch-polymorphic-v1.yaml has the defects that make each fail.
"""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest

from apr.tokenizer.engine import TextTokenizer
from command import run_apr
from contracts.claims.attention import grouped_attention_is_exact
from contracts.claims.devices import (
    every_device_loads_alike,
    one_loader_builds_models,
    stub_device_gets_the_files_weights,
)
from contracts.claims.encoders import Encoders, encoder_is_refused
from contracts.claims.fields import every_field_is_the_files, no_field_is_filled_in
from contracts.claims.presets import (
    QWEN2_0_5B,
    differing,
    no_init_is_the_baseline,
    preset_is_the_published_config,
)
from contracts.claims.vocabularies import (
    Vocabularies,
    define,
    greater_tokenizer_is_refused,
    other_vocabulary_is_refused,
    qwen_tokenizer_passes,
    smaller_tokenizer_passes,
)
from contracts.real_runs import RealRuns
from contracts.scene import Scene
from tiny import make_shards

pytestmark = pytest.mark.claim


def test_falsify_apr_pretrain_arch_001_preset_is_the_published_config(scene: Scene) -> None:
    preset_is_the_published_config(scene)


@pytest.mark.live
def test_falsify_apr_pretrain_arch_001_preset_is_the_real_files(qwen_gguf: Path, qwen_apr: Path) -> None:
    fields = gguf.GGUFReader(qwen_gguf).fields
    said = {
        name: fields[f"qwen2.{key}"].contents()
        for name, key in (
            ("hidden_size", "embedding_length"),
            ("intermediate_size", "feed_forward_length"),
            ("num_hidden_layers", "block_count"),
            ("num_attention_heads", "attention.head_count"),
            ("num_key_value_heads", "attention.head_count_kv"),
            ("max_position_embeddings", "context_length"),
            ("rope_theta", "rope.freq_base"),
            ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
        )
    }
    assert said == {name: pytest.approx(QWEN2_0_5B[name], rel=1e-6) for name in said}
    assert len(fields["tokenizer.ggml.tokens"].data) == QWEN2_0_5B["vocab_size"]
    shown = run_apr("inspect", qwen_apr, "--format", "json").json
    assert not differing(shown["config"], QWEN2_0_5B)
    assert (shown["parameter_count"], shown["tensor_count"]) == (494_032_768, 290)


@pytest.fixture(scope="module")
def baseline_shards(scene: Scene) -> Path:
    """Shards of a tokenizer with as many entries as the baseline has rows."""
    document = json.loads(scene.tokenizer.json_text)
    document["model"]["vocab"] |= {f"<row-{row}>": row for row in range(320, 50257)}
    return make_shards(scene.new("shards"), define(document))


def test_falsify_apr_pretrain_arch_002_no_init_is_the_llama_370m_baseline(
    scene: Scene, baseline_shards: Path
) -> None:
    no_init_is_the_baseline(scene, baseline_shards)


def test_falsify_apr_pretrain_arch_003_every_field_comes_from_the_file(scene: Scene) -> None:
    every_field_is_the_files(scene)


def test_falsify_apr_pretrain_arch_003_no_field_is_filled_in(scene: Scene) -> None:
    no_field_is_filled_in(scene)


def test_falsify_apr_pretrain_arch_004_grouped_attention_is_exact(scene: Scene) -> None:
    grouped_attention_is_exact(scene)


def test_falsify_apr_pretrain_arch_005_qwen_like_tokenizer_passes(
    scene: Scene, vocabularies: Vocabularies
) -> None:
    qwen_tokenizer_passes(scene, vocabularies)


def test_falsify_apr_pretrain_arch_006_other_vocabulary_is_refused(
    scene: Scene, vocabularies: Vocabularies
) -> None:
    other_vocabulary_is_refused(scene, vocabularies)


def test_falsify_apr_pretrain_arch_007_encoder_is_refused(scene: Scene, encoders: Encoders) -> None:
    encoder_is_refused(scene, encoders)


def test_falsify_apr_pretrain_arch_009_smaller_tokenizer_passes(
    scene: Scene, vocabularies: Vocabularies
) -> None:
    smaller_tokenizer_passes(scene, vocabularies)


@pytest.mark.live
def test_falsify_apr_pretrain_arch_005_and_009_real_qwen_tokenizer_passes(qwen_runs: RealRuns) -> None:
    gate = qwen_runs.first.gate("tokens.tokenizer")
    assert gate["verdict"] == "yes"
    assert (gate["facts"]["tokenizer_size"], gate["facts"]["vocab_size"]) == (151_665, 151_936)


def test_falsify_apr_pretrain_arch_010_greater_tokenizer_is_refused(
    scene: Scene, vocabularies: Vocabularies
) -> None:
    assert TextTokenizer(vocabularies.greater).vocab_size == 336
    greater_tokenizer_is_refused(scene, vocabularies)


def test_falsify_apr_pretrain_arch_cuda_001_every_device_loads_alike(scene: Scene) -> None:
    every_device_loads_alike(scene)


def test_falsify_apr_pretrain_arch_cuda_001_one_loader_builds_models() -> None:
    one_loader_builds_models()


def test_falsify_apr_pretrain_arch_cuda_001_stub_device_gets_the_files_weights(scene: Scene) -> None:
    stub_device_gets_the_files_weights(scene)
