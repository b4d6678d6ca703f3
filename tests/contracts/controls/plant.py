"""A negative control: a defect that is planted into the running program, and what its falsifier then says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from apr.base.errors import AprError
from apr.model.initialise import random_decoder
from apr.train import inputs
from contracts.scene import Scene
from tiny import CONFIG

Plant = Callable[[pytest.MonkeyPatch, Scene], None]
INIT, ARCH = "FALSIFY-APR-PRETRAIN-INIT-", "FALSIFY-APR-PRETRAIN-ARCH-"


@dataclass(frozen=True, kw_only=True)
class Control:
    """A defect and its sign; `sees` is searched in what the falsifier says, so that it fails for this defect."""

    defect: str
    sees: str
    plant: Plant

    @contextmanager
    def planted(self, scene: Scene) -> Iterator[None]:
        """The program with the defect in it."""
        with pytest.MonkeyPatch.context() as patch:
            self.plant(patch, scene)
            yield


def must_fail(control: Control, scene: Scene, *falsifiers: Callable[[Scene], None]) -> None:
    """Demand that one of an id's falsifiers fails under the control's defect, and with the control's words."""
    with control.planted(scene):
        said = first_refutation(scene, falsifiers)
    assert said is not None, f"the falsifier cannot fail: it passes although {control.defect}"
    assert re.search(control.sees, said, re.DOTALL), (
        f"it fails for another reason than {control.sees!r}: {said}"
    )


def first_refutation(scene: Scene, falsifiers: Sequence[Callable[[Scene], None]]) -> str | None:
    """What the first falsifier that fails says; None when all pass."""
    for falsify in falsifiers:
        try:
            falsify(scene)
        except (AssertionError, pytest.fail.Exception) as refutation:
            return str(refutation)
    return None


def controls_of(table: Mapping[str, Sequence[Control]], id: str) -> pytest.MarkDecorator:
    """Parametrise a test with the controls of a falsifier."""
    return pytest.mark.parametrize("control", table[id], ids=lambda control: control.defect.replace(" ", "-"))


# Defects that several falsifiers are there for.


def fall_back_to_random(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """A checkpoint that does not load is left out, and the run starts from random weights."""
    original = inputs._open_init

    def lenient(*arguments: Any) -> Any:
        try:
            return original(*arguments)
        except AprError:
            return None

    patch.setattr(inputs, "_open_init", lenient)


def allocate_first(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """A model is built before the inputs are looked at."""
    original = inputs._open_init

    def eager(*arguments: Any) -> Any:
        random_decoder(CONFIG, 0)
        return original(*arguments)

    patch.setattr(inputs, "_open_init", eager)


def exits_zero(*kinds: type[AprError]) -> Plant:
    """Errors are told, and the command exits 0."""

    def plant(patch: pytest.MonkeyPatch, scene: Scene) -> None:
        for kind in kinds:
            patch.setattr(kind, "exit_code", 0)

    return plant


def fill_in(defaults: Mapping[str, Any], *modules: Any) -> Plant:
    """A config field that a file lacks, or has as null, gets a default."""

    def plant(patch: pytest.MonkeyPatch, scene: Scene) -> None:
        for module in modules:
            original = module.parse_config

            def lenient(values: Mapping[str, Any], source: str, original: Any = original) -> Any:
                known = {name: value for name, value in values.items() if value is not None}
                return original({**values, **{k: v for k, v in defaults.items() if k not in known}}, source)

            patch.setattr(module, "parse_config", lenient)

    return plant
