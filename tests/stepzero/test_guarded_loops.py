"""The guard in loops that are not ours: healthy ones pass and train as without it, every fault is refused in time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from torch import Tensor, nn

from apr.aprfile.metadata import read_facts
from apr.aprfile.reader import open_apr
from apr.arch.config import TransformerConfig
from apr.base.errors import NotYet
from apr.stepzero.certificate import Certificate
from apr.stepzero.errors import NamesCollide, StepZeroRefused
from apr.stepzero.faults import modules
from apr.stepzero.guard import Planned, guard
from apr.stepzero.guard_kept import kept
from apr.stepzero.oracle import build_transformers_model
from apr.stepzero.reference import Reference, parse_reference
from apr.stepzero.registry import BY_ID
from apr.stepzero.trainer import StepZeroCallback
from apr.tokenizer.engine import TextTokenizer
from apr.workflows.importing import import_model
from command import run_apr
from tiny import CONFIG, QWEN_LIKE, make_hf_folder, make_model, make_tokenizer, make_weights, words

pytestmark = pytest.mark.usefixtures("one_thread")
UNTIED = replace(CONFIG, tie_word_embeddings=False, rms_norm_eps=1e-6)
CONFIGS = {"llama": CONFIG, "qwen2": QWEN_LIKE, "untied": UNTIED}
LR, DECAY = 1e-3, 0.1
PLANNED = Planned(lr=LR, weight_decay=DECAY, betas=(0.9, 0.999), eps=1e-8, device="cpu", dtype="fp32")
Batch = dict[str, Tensor]


def judge(*loop: Any, **options: Any) -> Certificate:
    """What the guard finds, whatever its verdict."""
    return guard(*loop, **options, refuse=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind, with a reference by transformers."""
    folder = tmp_path_factory.mktemp("guarded")
    return {
        name: make_model(folder / f"{name}.apr", config, oracle="transformers")
        for name, config in CONFIGS.items()
    }


def text_batches(count: int = 3, rows: int = 2, length: int = 48) -> list[Batch]:
    tokenizer = TextTokenizer(make_tokenizer())
    ids = tokenizer.encode("".join(words(i) for i in range(20)))[: count * rows * length]
    whole = torch.tensor(ids).view(count, rows, length)
    return [{"input_ids": part.clone(), "labels": part.clone()} for part in whole]


BATCHES = text_batches()


def build(config: TransformerConfig = CONFIG, attention: str = "sdpa") -> Any:
    return build_transformers_model(config, make_weights(config), attention)


def adamw(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), **{"lr": LR, "weight_decay": DECAY, **options})


@dataclass(kw_only=True)
class Loop:
    """A plain loop of a transformers model, each part of which a test may spoil."""

    model: Any
    optimizer: Any
    batches: Any
    options: dict[str, Any]
    num_steps: int = 0

    def loss(self, batch: Batch) -> Tensor:
        out: Tensor = self.model(**batch).loss
        return out

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.model(input_ids=ids, use_cache=False).logits
        return out

    def judged(self) -> Certificate:
        return judge(self.model, self.forward, self.optimizer, batches=self.batches, **self.options)

    def train(self) -> list[float]:
        self.model.train()
        losses = []
        for batch in self.batches:
            loss = self.loss(batch)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.num_steps += 1
            losses.append(float(loss.detach()))
        return losses


def loop_of(files: dict[str, Path], name: str = "llama", **options: Any) -> Loop:
    model = build(CONFIGS[name])
    loop = Loop(model=model, optimizer=adamw(model), batches=BATCHES, options={})
    loop.options = {"reference": files[name], "planned": PLANNED, "loss": loop.loss, **options}
    return loop


def by_id(certificate: Certificate) -> dict[str, Any]:
    return {gate.id: gate for gate in certificate.gates}


def state_of(loop: Loop) -> list[Any]:
    groups = [{k: v for k, v in g.items() if k != "params"} for g in loop.optimizer.param_groups]
    return [
        {name: value.clone() for name, value in loop.model.state_dict().items()},
        [(part.training, None if not hasattr(part, "weight") else part.weight.grad) for part in loop.model.modules()],
        groups,
        dict(loop.optimizer.state),
        torch.get_rng_state(),
        np.random.get_state()[1],
    ]  # fmt: skip


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor | np.ndarray):
        return bool((torch.as_tensor(a) == torch.as_tensor(b)).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


# --- healthy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_a_healthy_loop_passes_and_is_left_as_it_was(
    files: dict[str, Path], name: str, tmp_path: Path
) -> None:
    loop = loop_of(files, name, encode=TextTokenizer(make_tokenizer()).encode)
    loop.model.eval()
    before = state_of(loop)
    path = tmp_path / "certificate.json"
    certificate = guard(
        loop.model, loop.forward, loop.optimizer, batches=loop.batches, certificate_path=path, **loop.options
    )
    assert same(before, state_of(loop))
    assert (certificate.verdict, certificate.grade, certificate.comparison) == ("yes", "A", "equality")
    gates = by_id(certificate)
    assert {gate.id for gate in certificate.gates} <= BY_ID.keys()
    unknown = {gate.id for gate in certificate.gates if gate.verdict == "not known"}
    assert unknown == {"tokens.split", "tokens.statistics", "tokens.eos", "data.order", "loss.random_init"}
    assert all(gates[gate_id].facts["reason"] for gate_id in unknown)
    assert gates["reference.blocks"].figure < 1e-5
    assert gates["update.slope"].figure < 0.01
    done = run_apr("verify", path)
    assert done.code == 0, done.stderr
    unguarded = loop_of(files, name)
    assert loop.train() == unguarded.train()


def test_a_certificate_of_the_same_loop_gives_the_same_evidence(files: dict[str, Path]) -> None:
    digests = {loop_of(files).judged().evidence_digest for _ in range(2)}
    assert len(digests) == 1


def test_dropout_that_is_meant_passes_and_the_random_state_is_kept(files: dict[str, Path]) -> None:
    def dropping() -> Loop:
        loop = loop_of(files, planned=replace(PLANNED, dropout=True))
        for layer in loop.model.model.layers:
            layer.self_attn.attention_dropout = 0.2
        torch.manual_seed(3)
        return loop

    unguarded = dropping().train()
    loop = dropping()
    certificate = loop.judged()
    assert (certificate.verdict, certificate.grade) == ("yes", "A")
    assert by_id(certificate)["update.slope"].verdict == "not known"
    assert loop.train() == unguarded


@pytest.mark.parametrize(
    ("kind", "options", "size"),
    [
        (torch.optim.SGD, {"momentum": 0.9}, "not known"),
        (torch.optim.Adam, {}, "yes"),
        (torch.optim.Adam, {"weight_decay": 0.1}, "not known"),
        (torch.optim.RMSprop, {}, "not known"),
        (torch.optim.AdamW, {"amsgrad": True}, "yes"),
        (torch.optim.AdamW, {"foreach": True}, "yes"),
        (torch.optim.AdamW, {"fused": True}, "yes"),
    ],
)
def test_other_optimizers_are_taken_back_too(
    files: dict[str, Path], kind: Any, options: dict[str, Any], size: str
) -> None:
    def with_it() -> Loop:
        loop = loop_of(files, planned=Planned(lr=LR))
        loop.optimizer = kind(loop.model.parameters(), lr=LR, **options)
        return loop

    unguarded, loop = with_it().train(), with_it()
    certificate = loop.judged()
    assert certificate.verdict == "yes", certificate.first_refusal
    assert by_id(certificate)["update.size"].verdict == size
    assert loop.train() == unguarded


def test_a_schedule_that_starts_at_zero_is_rehearsed_at_its_peak(files: dict[str, Path]) -> None:
    loop = loop_of(files)
    schedule = torch.optim.lr_scheduler.LambdaLR(loop.optimizer, lambda step: min(1.0, step / 2))
    assert loop.optimizer.param_groups[0]["lr"] == 0.0
    assert loop.judged().verdict == "yes"
    assert loop.optimizer.param_groups[0]["lr"] == 0.0
    assert not getattr(loop.optimizer, "_opt_called", False)
    with pytest.warns(UserWarning, match="lr_scheduler"):
        schedule.step()  # it still knows that no step was made


def test_frozen_tensors_that_are_meant_pass_and_are_not_changed(files: dict[str, Path]) -> None:
    loop = loop_of(files, planned=replace(PLANNED, frozen=("*norm*",)))
    modules.frozen_norms(loop.model)
    loop.optimizer = torch.optim.AdamW(
        [p for p in loop.model.parameters() if p.requires_grad], lr=LR, weight_decay=DECAY
    )
    certificate = loop.judged()
    assert certificate.verdict == "yes", certificate.first_refusal
    assert by_id(certificate)["update.changes"].facts["num_frozen"] == 5


def test_clipping_and_pairs_with_shifted_labels_pass(files: dict[str, Path]) -> None:
    loop = loop_of(files)

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = loop.forward(batch[0])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[1].flatten())

    loop.batches = [(b["input_ids"][:, :-1], b["labels"][:, 1:]) for b in BATCHES]
    loop.options |= {"loss": loss, "labels_shifted": True, "planned": replace(PLANNED, grad_clip=0.5)}
    certificate = loop.judged()
    assert certificate.verdict == "yes", certificate.first_refusal
    facts = by_id(certificate)["update.size"].facts
    assert facts["norm_before_clipping"] > 0.5 >= facts["norm_at_step"] - 1e-6


def test_padding_on_the_right_passes_and_on_the_left_is_left_to_the_loss(files: dict[str, Path]) -> None:
    def padded(left: bool) -> list[Batch]:
        mask = torch.ones(2, 48, dtype=torch.int64)
        mask[1, :8] = 0
        mask = mask if left else mask.flip(1)
        return [
            {**b, "attention_mask": mask, "labels": b["labels"].masked_fill(mask == 0, -100)} for b in BATCHES
        ]

    for left, verdict in ((False, "yes"), (True, "not known")):
        loop = loop_of(files)
        loop.batches = padded(left)
        certificate = loop.judged()
        assert certificate.verdict == "yes", certificate.first_refusal
        assert {by_id(certificate)[i].verdict for i in ("loss.step0", "update.loss", "update.slope")} == {
            verdict
        }


def autocast(loop: Loop, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def run(value: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return function(value)

    return run


def test_bf16_by_autocast_is_compared_where_an_fp32_pass_is_given(files: dict[str, Path]) -> None:
    grades = {}
    for given in (True, False):
        loop = loop_of(files, planned=replace(PLANNED, dtype="bf16"))
        loop.options["loss"] = autocast(loop, loop.loss)
        loop.options["forward_fp32"] = loop.forward if given else None
        certificate = judge(
            loop.model, autocast(loop, loop.forward), loop.optimizer, batches=BATCHES, **loop.options
        )
        assert certificate.verdict == "yes", certificate.first_refusal
        grades[given] = certificate.grade
    assert grades == {True: "A", False: "C"}


class Renamed(nn.Module):
    """The same model under other names."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.net = inner


def test_other_names_and_a_compiled_wrapper_pass(files: dict[str, Path]) -> None:
    loop = loop_of(files)
    body = loop.model.model
    blocks = {"embedding": body.embed_tokens, "block.0": body.layers[0], "block.1": body.layers[1]}
    certificate = judge(
        Renamed(loop.model), loop.forward, loop.optimizer, batches=BATCHES, **loop.options,
        rename=lambda name: name.removeprefix("net."), blocks={**blocks, "final_norm": body.norm},
    )  # fmt: skip
    assert (certificate.verdict, certificate.grade) == ("yes", "A")
    assert by_id(certificate)["model.built"].verdict == "not known"
    without = judge(
        Renamed(loop.model), loop.forward, loop.optimizer, batches=BATCHES, **loop.options,
        rename=lambda name: name.removeprefix("net."),
    )  # fmt: skip
    assert (without.verdict, without.grade) == ("yes", "C")


def read_reference(path: Path) -> Reference:
    with open_apr(path) as file:
        recorded = read_facts(file).reference
    assert recorded is not None
    return parse_reference(recorded, str(path), CONFIG.vocab_size)


def test_a_reference_alone_compares_what_is_computed(files: dict[str, Path], tmp_path: Path) -> None:
    loop = loop_of(files, reference=read_reference(files["llama"]))
    path = tmp_path / "certificate.json"
    certificate = guard(
        loop.model, loop.forward, loop.optimizer, batches=BATCHES, certificate_path=path, **loop.options
    )
    assert (certificate.grade, by_id(certificate)["weights.memory"].verdict) == ("A", "not known")
    assert run_apr("verify", path).code == 0
    loop = loop_of(files, reference=read_reference(files["llama"]))
    modules.redrawn(loop.model)
    refusal = loop.judged().first_refusal
    assert refusal is not None
    assert (refusal.id, refusal.facts["first_difference"]) == ("reference.blocks", "block.1")


def test_without_a_reference_the_model_must_know_something(files: dict[str, Path], tmp_path: Path) -> None:
    fresh = loop_of(files, reference=None)
    refusal = fresh.judged().first_refusal
    assert refusal is not None
    assert refusal.id == "loss.step0"
    fresh.batches = text_batches(1, 8) * 40
    fresh.train()
    loop = loop_of(files, reference=None)
    loop.model.load_state_dict(fresh.model.state_dict())
    path = tmp_path / "certificate.json"
    certificate = guard(
        loop.model, loop.forward, loop.optimizer, batches=BATCHES, certificate_path=path, **loop.options
    )
    assert (certificate.verdict, certificate.grade, certificate.comparison) == ("yes", "C", "band")
    assert run_apr("verify", path).code == 0


def test_without_a_loss_the_cross_entropy_of_the_forward_pass_is_judged(files: dict[str, Path]) -> None:
    loop = loop_of(files, loss=None)
    certificate = loop.judged()
    assert (certificate.verdict, certificate.grade) == ("yes", "A")
    assert "not given" in by_id(certificate)["reference.training"].claim


# --- faults -------------------------------------------------------------------------------------

PLANTS = {
    "llama": (
        modules.redrawn, modules.all_redrawn, modules.zeroed, modules.exchanged, modules.transposed,
        modules.shifted_rows, modules.through_bf16, modules.one_ulp, modules.plain_norm, modules.broadcast_norm,
        modules.one_nan, modules.permuted, modules.nudged,
    ),
    "qwen2": (modules.without_biases, modules.redrawn),
    "untied": (modules.shifted_rows, modules.one_ulp),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "plant"), [(name, plant) for name, plants in PLANTS.items() for plant in plants]
)
def test_weights_that_are_not_the_files_are_refused(
    files: dict[str, Path], name: str, plant: Callable[[nn.Module], None]
) -> None:
    loop = loop_of(files, name)
    plant(loop.model)
    with pytest.raises(StepZeroRefused) as caught:
        guard(loop.model, loop.forward, loop.optimizer, batches=loop.batches, **loop.options)
    assert (caught.value.id, caught.value.gate, caught.value.guarded) == ("APR502", "weights.memory", True)
    assert not loop.optimizer.state


def over_copies(loop: Loop) -> None:
    copies = [p.detach().clone().requires_grad_() for p in loop.model.parameters()]
    loop.optimizer = torch.optim.AdamW(copies, lr=LR, weight_decay=DECAY)


def one_less(loop: Loop) -> None:
    loop.optimizer = torch.optim.AdamW(list(loop.model.parameters())[1:], lr=LR, weight_decay=DECAY)


def untied(loop: Loop) -> None:
    head = loop.model.lm_head
    head.weight = nn.Parameter(head.weight.detach().clone())
    loop.optimizer = adamw(loop.model)


def dropping(loop: Loop) -> None:
    for layer in loop.model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    loop.model.eval()  # the loop calls train() only later


def acausal(loop: Loop) -> None:
    for layer in loop.model.model.layers:
        layer.self_attn.is_causal = False


def other_theta(loop: Loop) -> None:
    config = loop.model.config
    config.rope_parameters = {**config.rope_parameters, "rope_theta": 2e4}
    loop.model.model.rotary_emb = type(loop.model.model.rotary_emb)(config=config)


def theta_of_the_config_alone(loop: Loop) -> None:
    config = loop.model.config
    config.rope_parameters = {**config.rope_parameters, "rope_theta": 2e4}


def tables_alone(loop: Loop) -> None:
    loop.model.model.rotary_emb.inv_freq.mul_(0.5)


def other_epsilon(loop: Loop) -> None:
    loop.model.model.layers[1].input_layernorm.variance_epsilon = 1e-3


def other_activation(loop: Loop) -> None:
    loop.model.model.layers[0].mlp.act_fn = nn.GELU()


def other_scale(loop: Loop) -> None:
    loop.model.model.layers[1].self_attn.scaling *= 1.05


def pairs_turned_otherwise(loop: Loop) -> None:
    layer = loop.model.model.layers[0].self_attn
    layer.k_proj.register_forward_hook(lambda _m, _a, out: out.roll(1, -1))


def other_head(loop: Loop) -> None:
    loop.model.lm_head.register_forward_hook(lambda _m, _a, out: out * 1.01)


def rows_mixed(loop: Loop) -> None:
    def mix(_module: Any, _args: Any, out: Tensor) -> Tensor:
        return out + 0.01 * out.mean(0, keepdim=True) if out.shape[0] > 1 else out

    loop.model.model.norm.register_forward_hook(mix)


def other_rate(loop: Loop) -> None:
    loop.optimizer.param_groups[0]["lr"] = 5e-4


def other_decay(loop: Loop) -> None:
    loop.optimizer.param_groups[0]["weight_decay"] = 0.01


def other_betas(loop: Loop) -> None:
    loop.optimizer.param_groups[0]["betas"] = (0.9, 0.95)


def stale_moments(loop: Loop) -> None:
    twin = loop_of({"llama": Path()}, "llama")
    twin.train()
    loop.optimizer.load_state_dict(twin.optimizer.state_dict())


def frozen(loop: Loop) -> None:
    modules.frozen_norms(loop.model)


def ascending(loop: Loop) -> None:
    loop.optimizer.param_groups[0]["maximize"] = True


def left_over(loop: Loop) -> None:
    loop.loss(BATCHES[0]).backward()


def shifted_already(loop: Loop) -> None:
    loop.batches = [{"input_ids": b["input_ids"][:, :-1], "labels": b["labels"][:, 1:]} for b in BATCHES]


def foreign_labels(loop: Loop) -> None:
    loop.batches = [{**b, "labels": b["labels"].roll(3, 1)} for b in BATCHES]


def all_masked(loop: Loop) -> None:
    loop.batches = [{**b, "labels": torch.full_like(b["labels"], -100)} for b in BATCHES]


def too_large_an_id(loop: Loop) -> None:
    ids = BATCHES[0]["input_ids"].clone()
    ids[0, 5] = CONFIG.vocab_size
    loop.batches = [{"input_ids": ids, "labels": ids.clone()}]


def scaled_loss(loop: Loop) -> None:
    loop.options["loss"] = lambda batch: 0.5 * loop.loss(batch)


def unshifted_loss(loop: Loop) -> None:
    loop.options["loss"] = lambda batch: torch.nn.functional.cross_entropy(
        loop.forward(batch["input_ids"]).flatten(0, 1), batch["labels"].flatten()
    )


def loss_without_gradient_below(loop: Loop) -> None:
    def cut(_module: Any, args: Any) -> Any:
        return (args[0].detach(), *args[1:])

    loop.model.model.layers[1].mlp.register_forward_pre_hook(cut)


def other_tokenizer(loop: Loop) -> None:
    loop.options["encode"] = lambda text: [1 + b for b in text.encode()]


def talks(loop: Loop) -> None:
    def loss(batch: Batch) -> Tensor:
        transformers.utils.logging.get_logger("transformers").warning("some weights are newly initialized")
        return loop.loss(batch)

    loop.options["loss"] = loss


def in_bf16(loop: Loop) -> None:
    loop.options["loss"] = autocast(loop, loop.loss)
    plain = loop.forward
    loop.forward = autocast(loop, plain)  # type: ignore[method-assign]


FAULTS: dict[Callable[[Loop], None], str] = {
    over_copies: "optimizer.settings",
    one_less: "optimizer.settings",
    other_decay: "optimizer.settings",
    other_betas: "optimizer.settings",
    untied: "weights.memory",
    dropping: "model.repeatable",
    acausal: "model.causal",
    other_theta: "model.built",
    theta_of_the_config_alone: "model.built",
    tables_alone: "model.built",
    other_epsilon: "model.built",
    other_activation: "model.built",
    other_scale: "model.built",
    pairs_turned_otherwise: "reference.blocks",
    other_head: "reference.loss",
    rows_mixed: "model.rows",
    other_rate: "optimizer.schedule",
    stale_moments: "optimizer.fresh",
    frozen: "update.gradients",
    left_over: "update.gradients",
    ascending: "update.size",
    shifted_already: "data.labels",
    foreign_labels: "data.labels",
    all_masked: "data.labels",
    too_large_an_id: "tokens.ids",
    scaled_loss: "reference.training",
    unshifted_loss: "reference.training",
    loss_without_gradient_below: "update.gradients",
    other_tokenizer: "tokens.probe",
    talks: "log.messages",
    in_bf16: "model.placement",
}


@pytest.mark.parametrize("plant", FAULTS)
def test_a_fault_of_the_loop_is_refused(files: dict[str, Path], plant: Callable[[Loop], None]) -> None:
    loop = loop_of(files)
    plant(loop)
    held = {name: value.clone() for name, value in loop.model.state_dict().items()}
    moments = [value.clone() for s in loop.optimizer.state.values() for value in s.values()]
    certificate = loop.judged()
    refusal = certificate.first_refusal
    assert refusal is not None
    assert refusal.id == FAULTS[plant]
    assert refusal.cause
    assert certificate.verdict == "no"
    assert all(torch.equal(held[name], value) for name, value in loop.model.state_dict().items())
    assert same(moments, [value for s in loop.optimizer.state.values() for value in s.values()])


def test_a_loss_that_counts_half_is_refused_without_a_reference(files: dict[str, Path]) -> None:
    known = loop_of(files, reference=None)
    known.batches = text_batches(1, 8) * 40
    known.train()
    loop = loop_of(files, reference=None)
    loop.model.load_state_dict(known.model.state_dict())
    scaled_loss(loop)
    refusal = loop.judged().first_refusal
    assert refusal is not None
    assert refusal.id == "update.loss"


def test_a_refusal_has_its_certificate_too(files: dict[str, Path], tmp_path: Path) -> None:
    loop = loop_of(files)
    over_copies(loop)
    path = tmp_path / "certificate.json"
    with pytest.raises(StepZeroRefused):
        guard(
            loop.model, loop.forward, loop.optimizer, batches=BATCHES, certificate_path=path, **loop.options
        )
    assert '"verdict": "no"' in path.read_text()
    assert run_apr("verify", path).code == 0  # it holds together, and says no


def test_a_tensor_more_or_less_is_refused(files: dict[str, Path]) -> None:
    loop = loop_of(files)
    loop.model.extra = nn.Linear(2, 2)
    refusal = loop.judged().first_refusal
    assert refusal is not None
    assert refusal.id == "weights.coverage"
    loop = loop_of(files, reference=files["qwen2"])
    refusal = loop.judged().first_refusal
    assert refusal is not None
    assert refusal.id == "weights.coverage"
    loop = loop_of(files)
    loop.model.double()
    refusal = loop.judged().first_refusal
    assert refusal is not None
    assert refusal.id == "weights.coverage"


def test_nothing_is_left_changed_when_the_loss_fails(files: dict[str, Path]) -> None:
    loop = loop_of(files)
    calls = 0

    def loss(batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 2:  # in the middle of the rehearsed update
            raise RuntimeError("out of something")
        return loop.loss(batch)

    loop.options["loss"] = loss
    before = state_of(loop)
    with pytest.raises(RuntimeError, match="out of something"):
        loop.judged()
    assert same(before, state_of(loop))


def test_the_state_of_an_optimizer_is_given_back_bit_for_bit(files: dict[str, Path]) -> None:
    loop = loop_of(files)
    loop.train()
    held = [value for state in loop.optimizer.state.values() for value in state.values()]
    before = [value.clone() for value in held]
    with kept(loop.optimizer):
        loop.train()
        loop.optimizer.param_groups[0]["lr"] = 7.0
        loop.optimizer.param_groups[0]["more"] = 1
    after = [value for state in loop.optimizer.state.values() for value in state.values()]
    assert all(a is b for a, b in zip(held, after, strict=True))
    assert same(before, after)
    assert loop.optimizer.param_groups[0]["lr"] == LR
    assert "more" not in loop.optimizer.param_groups[0]


# --- the Trainer --------------------------------------------------------------------------------


class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Windows of text, as a Trainer takes them."""

    def __init__(self, count: int = 12) -> None:
        self.rows = [row for batch in text_batches(count, 1, 32) for row in batch["input_ids"]]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        return {"input_ids": self.rows[index], "labels": self.rows[index].clone()}


class Losses(transformers.TrainerCallback):
    """Every logged loss."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
        self.seen += [logs["loss"]] if "loss" in logs else []


def trainer_of(folder: Path, model: Any, callbacks: list[Any], optimizer: Any = None, **more: Any) -> Any:
    arguments = {
        "output_dir": str(folder), "max_steps": 3, "per_device_train_batch_size": 2, "learning_rate": LR,
        "weight_decay": DECAY, "logging_steps": 1, "report_to": [], "save_strategy": "no", "use_cpu": True,
        "dataloader_pin_memory": False, "disable_tqdm": True, "warmup_steps": 2, **more,
    }  # fmt: skip
    return transformers.Trainer(
        model=model, args=transformers.TrainingArguments(**arguments), train_dataset=Rows(),
        callbacks=callbacks, optimizers=(optimizer, None),
    )  # fmt: skip


@pytest.fixture
def quiet() -> Iterator[None]:
    """Trainer resets transformers' own verbosity."""
    before = transformers.utils.logging.get_verbosity()
    yield
    transformers.utils.logging.set_verbosity(before)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"gradient_accumulation_steps": 2},
        {"bf16": True},
        {"accelerator_config": {"use_seedable_sampler": False}},
        {"checkpointing": True},
        {"optim": "sgd"},
        {"warmup_steps": 0, "max_grad_norm": 0.0, "dataloader_num_workers": 1},
    ],
    ids=str,
)
@pytest.mark.usefixtures("quiet")
def test_a_trainer_with_the_guard_trains_as_without(
    files: dict[str, Path], tmp_path: Path, more: dict[str, Any]
) -> None:
    seen, path = [], tmp_path / "certificate.json"
    for guarded in (True, False):
        losses = Losses()
        check = StepZeroCallback(files["llama"], certificate_path=path)
        model = build()
        if "checkpointing" in more:
            model.activation_checkpointing_enable()
        options = {key: value for key, value in more.items() if key != "checkpointing"}
        trainer = trainer_of(tmp_path, model, [losses, *([check] if guarded else [])], **options)
        trainer.train()
        if guarded:
            assert check.certificate is not None
            assert (check.certificate.verdict, check.certificate.grade) == ("yes", "A")
        seen.append((losses.seen, [p.detach().clone() for p in trainer.model.parameters()]))
    assert len(seen[0][0]) == 3
    assert same(seen[0], seen[1])
    assert run_apr("verify", path).code == 0


@pytest.mark.parametrize(
    ("plant", "gate"),
    [
        (other_theta, "model.built"),
        (dropping, "model.repeatable"),
        (untied, "weights.memory"),
        (over_copies, "optimizer.settings"),
        (other_decay, "optimizer.settings"),
        (frozen, "optimizer.settings"),
    ],
)
@pytest.mark.usefixtures("quiet")
def test_a_trainer_is_refused_before_its_first_step(
    files: dict[str, Path], tmp_path: Path, plant: Callable[[Loop], None], gate: str
) -> None:
    loop = loop_of(files)
    given = loop.optimizer
    plant(loop)
    optimizer = loop.optimizer if loop.optimizer is not given or gate == "optimizer.settings" else None
    optimizer = None if plant is frozen else optimizer
    losses = Losses()
    trainer = trainer_of(tmp_path, loop.model, [losses, StepZeroCallback(files["llama"])], optimizer)
    before = [value.detach().clone() for value in loop.model.parameters()]
    with pytest.raises(StepZeroRefused) as caught:
        trainer.train()
    assert caught.value.gate == gate
    assert (trainer.state.global_step, losses.seen) == (0, [])
    assert same(before, [value.detach() for value in loop.model.parameters()])


@pytest.mark.parametrize(("same_tokenizer", "gate"), [(True, None), (False, "tokens.probe")])
@pytest.mark.usefixtures("quiet")
def test_a_trainer_s_tokenizer_is_held_against_the_recorded_ids(
    files: dict[str, Path], tmp_path: Path, same_tokenizer: bool, gate: str | None
) -> None:
    engine = tokenizers.Tokenizer.from_str(make_tokenizer().json_text)
    if not same_tokenizer:
        engine.normalizer = tokenizers.normalizers.Lowercase()
    check = StepZeroCallback(files["llama"])
    trainer = trainer_of(tmp_path, build(), [check])
    trainer.processing_class = transformers.PreTrainedTokenizerFast(tokenizer_object=engine)
    trainer.callback_handler.processing_class = trainer.processing_class
    if gate is None:
        trainer.train()
        assert check.certificate is not None
        assert by_id(check.certificate)["tokens.probe"].verdict == "yes"
        return
    with pytest.raises(StepZeroRefused) as caught:
        trainer.train()
    assert caught.value.gate == gate


@pytest.mark.parametrize("option", [{"label_smoothing_factor": 0.1}])
@pytest.mark.usefixtures("quiet")
def test_what_the_callback_cannot_judge_it_does_not_let_pass(
    files: dict[str, Path], tmp_path: Path, option: dict[str, Any]
) -> None:
    with pytest.raises(NotYet):
        trainer_of(tmp_path, build(), [StepZeroCallback(files["llama"])], **option).train()


# --- the page -----------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "guard.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_has_two_short_examples() -> None:
    assert len(EXAMPLES) == 2
    assert all(len([line for line in code.splitlines() if line.strip()]) <= 16 for code in EXAMPLES)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.usefixtures("quiet")
@pytest.mark.filterwarnings("ignore:.*pin_memory.*")  # the Trainer's default, where there is no accelerator
def test_the_examples_of_the_page_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_hf_folder(tmp_path / "checkpoint")
    import_model("checkpoint", tmp_path / "model.apr")
    exec(EXAMPLES[number], {"batches": BATCHES, "windows": Rows()})
    assert run_apr("verify", tmp_path / "certificate.json").code == 0


def test_batches_without_targets_may_come_first(files: dict[str, Path]) -> None:
    loop = loop_of(files)
    nothing = {**BATCHES[0], "labels": torch.full_like(BATCHES[0]["labels"], -100)}
    loop.batches = [nothing, nothing, *BATCHES]
    assert loop.judged().verdict == "yes"


def test_what_goes_with_the_ids_is_cut_with_them(files: dict[str, Path]) -> None:
    loop = loop_of(files)
    rows, length = BATCHES[0]["input_ids"].shape
    mask = torch.ones(length, length, dtype=torch.bool).tril().expand(rows, 1, length, length)
    loop.batches = [
        {**batch, "attention_mask": mask, "position_ids": torch.arange(length)[None]} for batch in BATCHES
    ]
    assert loop.judged().verdict == "yes"


def test_a_rename_that_loses_a_parameter_is_refused(files: dict[str, Path]) -> None:
    loop = loop_of(files)
    loop.options["rename"] = lambda name: name.replace("k_proj", "q_proj")
    with pytest.raises(NamesCollide) as caught:
        loop.judged()
    assert "q_proj" in caught.value.first
    assert "k_proj" in caught.value.second
