"""What a run is taken to need of memory and disk, against what the code allocates; what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from apr.arch.config import TransformerConfig
from apr.arch.counts import parameter_count
from apr.arch.inventory import EMBEDDING, HEAD, inventory
from apr.arch.kept import kept_for_backward
from apr.arch.lora import adapter_specs, parse_lora, target_specs
from apr.arch.presets import PRESETS
from apr.model.initialise import random_decoder
from apr.train import fit
from apr.train.errors import NotEnoughDisk, NotEnoughMemory
from apr.train.estimate import estimate
from apr.train.fit import checkpoint_bytes, disk_bytes
from apr.train.memory import MemoryTerms, memory_terms
from apr.train.plan import resolve
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent
from apr.train.spec import RunSpec
from apr.train.subset import Subset, apply_subset, subset_of
from tiny import CONFIG, QWEN_LIKE

pytestmark = pytest.mark.usefixtures("one_thread")
QWEN = PRESETS["qwen2-0.5b"]
GIB = 2**30
UNTIED = replace(CONFIG, tie_word_embeddings=False, num_key_value_heads=4, head_dim=8)


def terms(config: TransformerConfig = QWEN, dtype: str = "bf16", **changes: Any) -> MemoryTerms:
    asked = {"num_steps": 10, "batch_size": 2, "seq_length": 512, "save": "blocking", **changes}
    packed = asked.pop("num_packed", 0)
    spec = RunSpec(dataset=Path("d"), run_dir=Path("r"), init=asked.pop("init", Path("m")), **asked)
    return memory_terms(resolve(spec), config, dtype, num_packed=packed)


PARTS: dict[str, dict[str, Any]] = {
    "all": {},
    **{
        " ".join(globs): {"freeze": globs}
        for globs in (
            (EMBEDDING,), ("model.layers.0.*", EMBEDDING), ("*.q_proj.*", "*.k_proj.*"), ("*norm*",), ("*.mlp.*",),
            ("model.layers.1.*",), ("*self_attn*", EMBEDDING), ("*.weight", "lm_head.weigh?"),
            ("model.layers.[0-1].*", EMBEDDING), ("*.layers.0.*", EMBEDDING, "*.1.self_attn.*", "*.1.mlp.[gd]*"),
            (EMBEDDING, "*input_layernorm*", "*.q_proj.*", "*.k_proj.*", "*.v_proj.*"),
            (EMBEDDING, "*.0.*norm*", "*.0.*.[qkv]_proj.*"),
        )
    },
    **{text: {"lora": text} for text in (
        "r=4", "r=2,targets=q", "r=2,targets=o", "r=3,targets=gate,down", "r=5,targets=q,k,v,o,gate,up,down",
        "r=1,targets=up", "r=2,targets=v", "r=2,targets=down",
    )},
}  # fmt: skip


ONLY_BIASES_LEFT = "*.weight lm_head.weigh?"
CASES = [
    pytest.param(part, config, id=f"{part}-{name}")
    for part in PARTS
    for name, config in (("tied", CONFIG), ("biases", QWEN_LIKE), ("untied", UNTIED))
    if part != ONLY_BIASES_LEFT or config.attention_bias
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("part", "config"), CASES)
def test_what_is_kept_for_the_backward_pass_is_what_autograd_saves(
    part: str, config: TransformerConfig, dtype: torch.dtype
) -> None:
    """A change of the decoder that keeps more or less than the walk says fails here."""
    B, T, size = 3, 40, dtype.itemsize
    decoder = random_decoder(config, 0)
    plan = resolve(RunSpec(dataset=Path("d"), run_dir=Path("r"), init=Path("m"), **PARTS[part]))
    subset = subset_of(plan, config)
    apply_subset(decoder, subset, 0)
    weights = {p.untyped_storage().data_ptr() for p in decoder.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        saved[value.untyped_storage().data_ptr()] = value.untyped_storage()
        return value

    ids = torch.randint(config.vocab_size, (B, T))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        hidden = decoder.hidden(ids, dtype=dtype)
    saved[hidden.untyped_storage().data_ptr()] = hidden.untyped_storage()  # the loss keeps it
    found = sum(storage.nbytes() for place, storage in saved.items() if place not in weights)
    names = None if subset.is_whole else subset.names
    kept = kept_for_backward(config, size, names, subset.lora)
    turned = any(".q_proj." in name or ".k_proj." in name for name in _on_the_way(config, subset))
    rope = 2 * T * config.head_dim * size * turned
    assert found == B * T * kept.per_token + kept.copies + rope


def _on_the_way(config: TransformerConfig, subset: Subset) -> set[str]:
    """Weights behind which a gradient is: those trained, and all that read what they gave."""
    order = [spec.name for spec in inventory(config)]
    trained = subset.names | (subset.merged if subset.lora else frozenset())
    # A projection's neighbours read the same input, and what is in the block before reaches all of this one.
    first = min((_place(name) for name in trained if name != HEAD), default=(99, 9))
    return {n for n in order if n != HEAD and (n in trained or _place(n) > first)}


def _place(name: str) -> tuple[int, int]:
    """Block and depth in it."""
    if name == EMBEDDING:
        return (-1, 0)
    if ".layers." not in name:
        return (99, 0)
    depths = (
        ("input_layernorm", 0),
        ("o_proj", 2),
        ("self_attn", 1),
        ("post_attention", 3),
        ("down", 5),
        ("mlp", 4),
    )
    return int(name.split(".")[2]), next(depth for part, depth in depths if part in name)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_long_run_holds_weights_moments_and_what_it_keeps(dtype: str) -> None:
    found = terms(dtype=dtype, batch_size=8)
    weights = 4 * parameter_count(QWEN)
    assert found.at == "in the backward pass"
    assert (found.weights, found.moments, found.gradients) == (weights, 2 * weights, 0)
    size = 2 if dtype == "bf16" else 4
    kept = kept_for_backward(QWEN, size)
    matrices = sum(spec.num_elements for spec in inventory(QWEN) if len(spec.shape) > 1)
    copies = 2 * matrices if dtype == "bf16" else 0
    assert found.activations == 8 * 512 * kept.per_token + copies
    assert found.live == 3 * weights + found.activations + found.logits + found.snapshot
    assert found.required == found.live + found.allocator > found.live
    assert found.peak == found.required  # process and files are the caller's to add


def test_what_is_frozen_has_no_gradient_no_moments_and_no_copy() -> None:
    lora = parse_lora("r=16")
    adapters = sum(spec.num_elements for spec in adapter_specs(QWEN, lora))
    targets = sum(spec.num_elements for spec in target_specs(QWEN, lora))
    weights = 4 * parameter_count(QWEN)
    small = {"batch_size": 1, "seq_length": 8, "grad_accum": 2, "num_steps": 200}
    whole, trained = terms(save="background", **small), terms(lora="r=16", save="background", **small)
    assert (trained.at, trained.weights) == ("in the random-weights control", 2 * weights)
    assert trained.live < 0.4 * whole.live
    large = terms(lora="r=16", save="background", batch_size=64, grad_accum=2, num_steps=200)
    assert (large.at, large.weights) == ("in the backward pass", weights + 4 * adapters)
    assert (large.gradients, large.moments) == (4 * adapters, 8 * adapters)
    assert large.snapshot == 12 * adapters + 4 * targets
    wide = parse_lora("r=2,targets=q,k,v,o,gate,up,down")
    merged = sum(spec.num_elements for spec in target_specs(CONFIG, wide))
    blocking = terms(CONFIG, lora=str(wide), save="blocking", num_steps=1, batch_size=1, seq_length=8)
    assert (blocking.at, blocking.snapshot) == (
        "in a save",
        4 * merged,
    )  # a merge is a copy however it is saved
    frozen = terms(freeze=(EMBEDDING,), batch_size=8, grad_accum=2)
    head = QWEN.vocab_size * QWEN.hidden_size
    assert frozen.gradients == weights - 4 * head
    assert terms(batch_size=8, grad_accum=2).logits - frozen.logits >= 4 * head


def test_a_second_micro_batch_finds_the_gradients_there() -> None:
    one, two = terms(batch_size=8), terms(batch_size=8, grad_accum=2)
    assert (one.gradients, two.gradients) == (0, 4 * parameter_count(QWEN))
    assert two.activations == one.activations


def test_a_short_batch_peaks_in_the_update() -> None:
    found = terms(batch_size=1, seq_length=8)
    assert found.at == "in the optimizer's step"
    assert found.weights + found.gradients + found.moments == 16 * parameter_count(QWEN)
    assert found.original == 0


def test_weights_that_no_file_gives_again_are_held_twice() -> None:
    short = {"batch_size": 1, "seq_length": 8}
    assert terms(init=None, **short).at == "in the rehearsed update"
    assert terms(init=None, **short).original == 4 * parameter_count(QWEN)
    assert terms(num_packed=QWEN.vocab_size * 1000, **short).original == 4000 * QWEN.vocab_size


def test_a_save_in_the_background_holds_weights_and_moments_twice() -> None:
    copy = 12 * parameter_count(QWEN)
    once = terms(save="background")
    assert (once.at, once.snapshot, once.moments) == ("in a save", copy, 8 * parameter_count(QWEN))
    # It may still be written while the next epoch trains.
    twice, blocking = (terms(num_steps=101, batch_size=8, save=save) for save in ("background", "blocking"))
    assert (twice.at, twice.snapshot, blocking.snapshot) == ("in the backward pass", copy, 0)
    assert twice.live - blocking.live == copy


def test_the_loss_holds_one_chunk_of_logits_whatever_the_batch() -> None:
    assert terms(batch_size=8).logits == terms(batch_size=80).logits
    head = 4 * QWEN.vocab_size * QWEN.hidden_size
    assert head + 2 * 4 * (1 << 25) * 0.99 < terms(batch_size=8).logits < head + 1.6 * head


def test_without_steps_there_is_no_optimizer_to_hold() -> None:
    found = terms(num_steps=0)
    assert found.weights == 8 * parameter_count(QWEN)  # the checkpoint and the random control
    assert (found.gradients, found.moments, found.activations) == (0, 0, 0)
    assert terms(num_steps=0, init=None).weights == 4 * parameter_count(QWEN)


@pytest.mark.parametrize(
    ("num_steps", "keep", "checkpoints", "states"),
    [
        *((0, "all", 1, 0), (1, "all", 1, 1), (100, "all", 1, 1), (101, "all", 2, 2), (1000, "all", 10, 3)),
        *((1000, "last:1", 3, 3), (1000, "last:4", 5, 3), (1000, "last:4,best", 6, 3), (200, "last:9", 2, 2)),
    ],
)
def test_the_disk_holds_the_checkpoints_that_are_kept_and_the_moments_of_the_states(
    num_steps: int, keep: str, checkpoints: int, states: int
) -> None:
    plan = resolve(RunSpec(dataset=Path("d"), run_dir=Path("r"), num_steps=num_steps, keep=keep))
    size, margin = parameter_count(QWEN), checkpoints * 16 << 20
    least = checkpoints * 4 * size + states * 8 * size
    assert least < disk_bytes(plan, QWEN) < least + margin


@pytest.fixture
def spec(tiny_apr: Path, tiny_shards: Path, tmp_path: Path) -> RunSpec:
    small = {"batch_size": 2, "seq_length": 32, "val_tokens": 64, "device": "cpu", "dtype": "fp32"}
    return RunSpec(init=tiny_apr, dataset=tiny_shards, run_dir=tmp_path / "run", num_steps=1, **small)


def needed(spec: RunSpec) -> int:
    return memory_terms(resolve(spec), CONFIG, "fp32").required


@pytest.mark.parametrize("command", [pretrain, estimate])
def test_a_run_that_memory_cannot_hold_is_refused(
    spec: RunSpec, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "available_memory_bytes", lambda: needed(spec) - 1)
    with pytest.raises(NotEnoughMemory):
        command(spec, Silent())
    assert not spec.run_dir.exists()
    monkeypatch.setattr(fit, "available_memory_bytes", lambda: needed(spec))
    command(spec, Silent())


def test_without_steps_a_run_is_not_refused_for_the_optimizers_memory(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero = replace(spec, num_steps=0)
    monkeypatch.setattr(fit, "available_memory_bytes", lambda: needed(zero))
    assert pretrain(zero, Silent())["steps"] == 0


def test_a_plan_whose_checkpoints_the_disk_cannot_hold_is_refused(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = disk_bytes(resolve(spec), CONFIG)
    monkeypatch.setattr(fit, "free_disk_bytes", lambda path: size - 1)
    with pytest.raises(NotEnoughDisk) as caught:
        estimate(spec, Silent())
    assert caught.value.path == str(spec.run_dir)
    assert not spec.run_dir.exists()
    assert pretrain(spec, Silent())["steps"] == 1  # it may stop early, or its checkpoints be taken elsewhere
    monkeypatch.setattr(fit, "free_disk_bytes", lambda path: size)
    estimate(spec, Silent())


def test_the_files_of_a_run_count_as_mapped_and_the_process_as_there(spec: RunSpec) -> None:
    memory = estimate(spec, Silent())["memory"]
    assert spec.init is not None
    shards = sum(path.stat().st_size for path in spec.dataset.rglob("shard-*.bin"))
    assert memory["mapped"] == spec.init.stat().st_size + shards + checkpoint_bytes(CONFIG)
    assert 0.1 * GIB < memory["process"] < 8 * GIB
    assert memory["peak"] == memory["required"] + memory["process"] + memory["mapped"]
