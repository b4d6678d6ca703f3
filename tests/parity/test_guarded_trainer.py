"""A real Trainer on SmolLM2, under the guard: a healthy run trains, a spoilt one is refused before its first step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from apr.aprfile.metadata import read_facts
from apr.aprfile.reader import open_apr
from apr.stepzero.errors import StepZeroRefused
from apr.stepzero.faults import modules
from apr.stepzero.oracle import build_transformers_model
from apr.stepzero.probe import probe_text
from apr.stepzero.trainer import StepZeroCallback
from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.engine import TextTokenizer
from command import run_apr

pytestmark = [pytest.mark.smollm, pytest.mark.usefixtures("one_thread", "quiet")]
LENGTH, ROWS = 64, 8
LR = 1e-4


class Tensors(dict[str, Any]):
    """The tensors of a file by name, each widened when it is asked for."""

    def __init__(self, file: Any, names: list[str]) -> None:
        super().__init__(dict.fromkeys(names))
        self._file = file

    def __getitem__(self, name: str) -> Any:
        return self._file.as_f32(name)


class Windows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """A few short windows of the probe's text."""

    def __init__(self, path: Path) -> None:
        with open_apr(path, "structure") as file:
            facts = read_facts(file)
        definition = TokenizerDefinition.from_dict(facts.tokenizer or {}, facts.tokenizer_json or "")
        ids = TextTokenizer(definition).encode(probe_text())
        self.rows = [torch.tensor(ids[i * LENGTH : (i + 1) * LENGTH]) for i in range(ROWS)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index].clone()}


@pytest.fixture
def quiet() -> Iterator[None]:
    before = transformers.utils.logging.get_verbosity()
    yield
    transformers.utils.logging.set_verbosity(before)


@pytest.fixture(scope="module")
def windows(smollm2_apr: Path) -> Windows:
    return Windows(smollm2_apr)


def build(path: Path) -> Any:
    """The class of the library, built from the config and filled with the file's tensors."""
    with open_apr(path, "structure") as file:
        facts = read_facts(file)
        names = [name for name in file.entries if name not in file.aliases]
        return build_transformers_model(facts.config, Tensors(file, names), "sdpa")


class Steps(transformers.TrainerCallback):
    """How many steps the optimizer made in the run, and what the losses were."""

    def __init__(self) -> None:
        self.num_steps, self.losses = 0, list[float]()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.num_steps += 1

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
        self.losses += [logs["loss"]] if "loss" in logs else []


def trainer_of(
    folder: Path, model: Any, windows: Windows, callbacks: list[Any], optimizer: Any = None
) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        learning_rate=LR, weight_decay=0.1, warmup_steps=1, logging_steps=1, report_to=[], save_strategy="no",
        use_cpu=True, dataloader_pin_memory=False, disable_tqdm=True,
    )  # fmt: skip
    return transformers.Trainer(
        model=model, args=arguments, train_dataset=windows, callbacks=callbacks, optimizers=(optimizer, None)
    )


class Timed(StepZeroCallback):
    """The guard, with what it took."""

    seconds = 0.0

    def on_train_begin(self, *args: Any, **given: Any) -> None:
        start = time.perf_counter()
        super().on_train_begin(*args, **given)
        self.seconds = time.perf_counter() - start


def test_a_healthy_run_trains_as_without_the_guard(
    smollm2_apr: Path, windows: Windows, tmp_path: Path
) -> None:
    path, seen = tmp_path / "certificate.json", []
    check = Timed(smollm2_apr, certificate_path=path)
    for callbacks in ([check], []):
        steps = Steps()
        trainer_of(tmp_path, build(smollm2_apr), windows, [steps, *callbacks]).train()
        seen.append((steps.num_steps, steps.losses))
    assert seen[0] == seen[1]
    assert seen[0][0] == 2
    certificate = check.certificate
    assert certificate is not None
    assert (certificate.verdict, certificate.grade) == ("yes", "A")
    figures = {gate.id: gate.figure for gate in certificate.gates if gate.verdict == "yes"}
    slow = sorted(certificate.gates, key=lambda gate: -gate.seconds)[:6]
    print(f"\nthe guard took {check.seconds:.1f} s;", *(f"{gate.id} {gate.seconds:.1f}" for gate in slow))
    print(
        {
            name: figures[name]
            for name in ("reference.blocks", "reference.loss", "update.size", "update.slope")
        }
    )
    assert run_apr("verify", path).code == 0


def one_tensor_anew(model: Any) -> None:
    modules.redrawn(model)


def other_theta(model: Any) -> None:
    config, body = model.config, model.model
    config.rope_parameters = {**config.rope_parameters, "rope_theta": 1e4}
    body.rotary_emb = type(body.rotary_emb)(config=config)


def dropping(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1


def untouched(model: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("plant", "copies", "gate"),
    [
        (one_tensor_anew, False, "weights.memory"),
        (other_theta, False, "model.built"),
        (dropping, False, "model.repeatable"),
        (untouched, True, "optimizer.settings"),
    ],
)
def test_a_spoilt_run_is_refused_before_its_first_step(
    smollm2_apr: Path,
    windows: Windows,
    tmp_path: Path,
    plant: Callable[[Any], None],
    copies: bool,
    gate: str,
) -> None:
    model, steps = build(smollm2_apr), Steps()
    plant(model)
    optimizer = None
    if copies:
        held = [value.detach().clone().requires_grad_() for value in model.parameters()]
        optimizer = torch.optim.AdamW(held, lr=LR)
    trainer = trainer_of(tmp_path, model, windows, [steps, StepZeroCallback(smollm2_apr)], optimizer)
    with pytest.raises(StepZeroRefused) as caught:
        trainer.train()
    print(f"\n{caught.value}")
    assert caught.value.gate == gate
    assert (steps.num_steps, trainer.state.global_step, steps.losses) == (0, 0, [])
    inner = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    assert not inner.state
