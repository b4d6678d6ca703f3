"""Every gate is registered, every error speaks for one gate, and a certificate holds exactly what it must."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import apr
from apr.aprfile.reader import open_apr
from apr.base.errors import known_errors
from apr.stepzero.certificate import Certificate
from apr.stepzero.registry import BY_ID, GATES, OF_DOCUMENTS, gate_of_error, required_gates
from apr.train import run as run_module
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent
from apr.train.spec import RunSpec
from tiny import CONFIG, make_model

pytestmark = pytest.mark.usefixtures("one_thread")

# Numbers that a range leaves room for.
RESERVED = {
    f"APR{number:03d}"
    for first, last in ((522, 539), (615, 619), (830, 839))
    for number in range(first, last + 1)
}


def ids() -> set[str]:
    """The ids of all errors of the program."""
    for module in pkgutil.walk_packages(apr.__path__, "apr."):
        if module.name.endswith(("errors", ".cli.output", ".cli.explain_command")):
            importlib.import_module(module.name)
    return set(known_errors())


def test_every_registered_error_exists() -> None:
    registered = {error for gate in GATES for error in gate.errors}
    assert registered - ids() <= RESERVED


def test_no_error_speaks_for_two_gates() -> None:
    for at_import in (True, False):
        counts = Counter(
            error for gate in GATES if (gate.stage == "import") is at_import for error in gate.errors
        )
        assert [error for error, count in counts.items() if count > 1] == []
    for gate in GATES:
        for error in gate.errors:
            assert gate_of_error(error, at_import=gate.stage == "import") == gate.id
    assert gate_of_error("APR999") is None


def test_every_gate_has_a_name_of_its_own() -> None:
    assert len(BY_ID) == len(GATES)
    assert all(gate.id.count(".") == 1 and gate.asks for gate in GATES)


SealedRun = Callable[..., Certificate]


@pytest.fixture(scope="module")
def models(one_thread: None, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model that has learned its corpus (without a reference it must), as three imports could have left it."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "arch.json").write_text(json.dumps(CONFIG.to_dict()))
    make_model(folder / "tokenizer.apr")
    spec = RunSpec(
        arch=str(folder / "arch.json"), tokenizer=folder / "tokenizer.apr", dataset=tiny_shards,
        run_dir=folder / "run", mode="from-scratch", num_steps=60, batch_size=8, seq_length=32, lr=3e-3,
        warmup_steps=5, steps_per_epoch=60, val_tokens=64, device="cpu", dtype="fp32", allow_shard_cycle=True,
    )  # fmt: skip
    pretrain(spec, Silent())
    with open_apr(folder / "run" / "ckpt" / "epoch-001.apr") as file:
        weights = {name: file.as_f32(name).copy() for name in file.entries if name not in file.aliases}
    oracles = {"A": "transformers", "B": "self", "C": "none"}
    return {
        grade: make_model(folder / f"{grade}.apr", oracle=oracle, weights=weights)
        for grade, oracle in oracles.items()
    }


@pytest.fixture
def sealed(tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SealedRun:
    """Run the tiny model and return the certificate itself."""
    kept: list[Certificate] = []
    original = run_module.Run._require_passed
    monkeypatch.setattr(
        run_module.Run,
        "_require_passed",
        lambda self, certificate: kept.append(certificate) or original(self, certificate),
    )

    def run(**changes: Any) -> Certificate:
        given: dict[str, Any] = {
            "num_steps": 2, "batch_size": 2, "seq_length": 32, "steps_per_epoch": 2, "val_tokens": 256,
            "device": "cpu", "dtype": "fp32", "lr": 1e-3, "warmup_steps": 1,
        }  # fmt: skip
        spec = RunSpec(dataset=tiny_shards, run_dir=tmp_path / "run", **{**given, **changes})
        pretrain(spec, Silent())
        return kept[-1]

    return run


def check(certificate: Certificate, **facts: Any) -> None:
    judged = [gate.id for gate in certificate.gates]
    assert len(set(judged)) == len(judged)
    assert set(judged) <= BY_ID.keys()
    assert set(judged) == certificate.required == required_gates(**facts)
    assert (certificate.verdict, certificate.not_judged) == ("yes", ())


@pytest.mark.parametrize("num_steps", [0, 2])
@pytest.mark.parametrize("grade", ["A", "B", "C"])
def test_a_healthy_run_judges_exactly_what_it_must(
    models: dict[str, Path], sealed: SealedRun, grade: str, num_steps: int
) -> None:
    certificate = sealed(init=models[grade], num_steps=num_steps)
    assert certificate.grade == grade
    check(certificate, from_init=True, has_reference=grade != "C", has_tokenizer=True, num_steps=num_steps)


@pytest.mark.parametrize("num_steps", [0, 2])
@pytest.mark.parametrize(
    ("asked", "has_adapters"), [({"freeze": ("model.layers.0.*",)}, False), ({"lora": "r=2"}, True)]
)
def test_so_does_one_that_trains_a_part(
    models: dict[str, Path], sealed: SealedRun, asked: dict[str, Any], has_adapters: bool, num_steps: int
) -> None:
    certificate = sealed(init=models["A"], num_steps=num_steps, **asked)
    facts: dict[str, Any] = {"from_init": True, "has_reference": True, "has_tokenizer": True}
    check(certificate, **facts, num_steps=num_steps, has_subset=True, has_adapters=has_adapters)
    assert ("adapters" in certificate.inputs) == has_adapters


@pytest.mark.parametrize("num_steps", [0, 2])
def test_so_does_one_with_a_document_mask(models: dict[str, Path], sealed: SealedRun, num_steps: int) -> None:
    certificate = sealed(init=models["B"], num_steps=num_steps, document_mask=True)
    facts = {"from_init": True, "has_reference": True, "has_tokenizer": True}
    check(certificate, **facts, num_steps=num_steps, document_mask=True)
    assert certificate.required - required_gates(**facts, num_steps=num_steps) == OF_DOCUMENTS


@pytest.mark.parametrize("num_steps", [0, 2])
@pytest.mark.parametrize("has_tokenizer", [True, False])
def test_so_does_one_from_scratch(
    models: dict[str, Path], sealed: SealedRun, tmp_path: Path, has_tokenizer: bool, num_steps: int
) -> None:
    (tmp_path / "arch.json").write_text(json.dumps(CONFIG.to_dict()))
    tokenizer = {"tokenizer": models["B"]} if has_tokenizer else {}
    certificate = sealed(arch=str(tmp_path / "arch.json"), num_steps=num_steps, **tokenizer)
    assert certificate.grade is None
    check(
        certificate,
        from_init=False,
        has_reference=False,
        has_tokenizer=has_tokenizer,
        num_steps=num_steps,
    )


def test_less_is_required_of_less() -> None:
    whole = required_gates(from_init=True, has_reference=True, has_tokenizer=True, num_steps=1)
    for fact, less in (
        ("from_init", False),
        ("has_reference", False),
        ("has_tokenizer", False),
        ("num_steps", 0),
    ):
        facts: dict[str, Any] = {
            "from_init": True,
            "has_reference": True,
            "has_tokenizer": True,
            "num_steps": 1,
        }
        required = required_gates(**{**facts, fact: less})
        assert required < whole
        assert {"loss.step0", "model.causal", "optimizer.settings", "log.messages"} <= required
    assert all(BY_ID[gate_id].stage in ("inputs", "step zero") for gate_id in whole)
