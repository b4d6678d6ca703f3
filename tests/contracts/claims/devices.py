"""FALSIFY-APR-PRETRAIN-ARCH-CUDA-001: every device builds the model through the same loader."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import apr
from apr.train import certify, pretrain
from apr.train import run as run_module
from apr.train.ranks import Ranks
from contracts.claims.start import kept
from contracts.scene import Scene, require_success, watch_allocations

DEVICES = ("cpu", "cuda", *(f"cuda:{index}" for index in range(16)), "auto")


class Reached(Exception):
    """The builder of the model was called: that is all a device without hardware can show."""


def every_device_loads_alike(scene: Scene) -> None:
    """CUDA-001: whatever --device says, the model of --init is built by load_decoder, of that file, on that device."""
    for device in DEVICES:
        calls: list[tuple[Path, torch.device]] = []

        def builder(file: Any, device: torch.device, calls: list[Any] = calls) -> None:
            calls.append((file.path, torch.device(device)))
            raise Reached

        with pytest.MonkeyPatch.context() as patch, watch_allocations() as allocated:
            stub_cuda(patch)
            patch.setattr(certify, "load_decoder", builder)
            patch.setenv("APR_TRACEBACK", "1")
            end = how_it_ends(scene, "--init", scene.model, "--device", device)
        assert isinstance(end, Reached), f"--device {device} did not come to load_decoder: {end}"
        want = torch.device("cuda" if device == "auto" else device)
        assert calls == [(scene.model, want)], f"--device {device} loads {calls}"
        assert not allocated, f"--device {device} allocates another model before the checkpoint's"


def how_it_ends(scene: Scene, *arguments: object) -> Exception | str:
    """What a run raises, with the program's own net off; or how the command ends."""
    try:
        return f"exit code {scene.pretrain(*arguments).code}"
    except Exception as error:
        return error


def stub_cuda(patch: pytest.MonkeyPatch) -> None:
    """Make torch say that it has sixteen CUDA devices."""
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: 16)
    patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)


# Who may build a Decoder: the loader, random initialisation, and the recorder of a grade B reference.
BUILDERS = {"model/load.py", "model/initialise.py", "workflows/importing.py"}


# Who may read a file's tensors: the loader; step zero to hash what it must find; its rehearsal to take an update back;
# `apr falsify`, to write them as another program's folder; and `apr verify`, to repeat a merge of adapters.
READERS = {
    *("model/load.py", "train/certify_weights.py", "train/certify_update.py", "workflows/falsify_scene.py"),
    "workflows/verify_subset.py",
}


def one_loader_builds_models(source: Path | None = None) -> None:
    """CUDA-001: nothing else in the program builds a decoder, or reads a file's tensors to fill one."""
    root = source or Path(apr.__file__).parent
    names: dict[str, set[str]] = {"Decoder": set(), "stored_tensor": set()}
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "id", getattr(node.func, "attr", None))
                names.get(str(called), set()).add(path.relative_to(root).as_posix())
    assert names["Decoder"] == BUILDERS, f"decoders are built in {sorted(names['Decoder'])}"
    assert names["stored_tensor"] == READERS, f"files fill models in {sorted(names['stored_tensor'])}"


def stub_device_gets_the_files_weights(scene: Scene) -> None:
    """CUDA-001: a run on a device that calls itself CUDA starts from the same bytes as one on the CPU."""
    starts: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "certify", kept(run_module.certify, starts))
        require_success(scene.pretrain("--init", scene.learned))
        patch.setattr(pretrain, "resolve_compute", lambda device, dtype, ranks: StubCompute())
        require_success(scene.pretrain("--init", scene.learned, "--device", "cuda"))
    cpu, stub = (start.decoder.state_dict() for start in starts)
    assert cpu.keys() == stub.keys()
    unequal = [name for name in cpu if not torch.equal(cpu[name], stub[name])]
    assert not unequal, f"on the stub device {unequal[0]} is not the file's"


class CudaInName(str):
    """A device that is the CPU's memory and says `cuda` when asked what it is."""

    type = "cuda"


@dataclass(frozen=True)
class StubCompute:
    """What resolve_compute gives where there is CUDA, over the CPU's memory."""

    device: Any = field(default_factory=lambda: CudaInName("cpu"))
    dtype: torch.dtype = torch.float32
    note: str = ""
    dtype_name: str = "fp32"
    ranks: Ranks = field(default_factory=Ranks)
