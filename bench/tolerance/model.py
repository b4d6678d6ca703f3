"""Everything measured on one model."""

from __future__ import annotations

import gc
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apr.aprfile.metadata import model_tensors, read_facts
from apr.aprfile.reader import open_apr
from apr.arch.config import TransformerConfig
from apr.convert.rounding import round_to, widen
from apr.model.decoder import Decoder
from apr.stepzero.figures import relative_difference
from apr.stepzero.oracle import build_transformers_model
from bench.tolerance.fault import Fault, Site
from bench.tolerance.forward import PLAIN, Arrangement, run_ours, run_reference
from bench.tolerance.measured import Measured, distance
from bench.tolerance.noise import DISTINCT, REDUCED, Variation, variations
from bench.tolerance.wrong_computation import COMPUTATION_FAULTS
from bench.tolerance.wrong_config import CONFIG_FAULTS
from bench.tolerance.wrong_weights import WEIGHT_FAULTS

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# What another processor would compute with: the libraries are told to leave out instruction sets. Read when they load,
# so each runs in a process of its own.
PROCESSORS = {
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "AVX-512 without bf16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "SSE4": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
    },
}
Say = Callable[[str], None]


class Subject:
    """A model's tensors, rounded to a stored dtype, with the reference that transformers computes from them."""

    def __init__(self, path: Path, stored: str) -> None:
        self.tensors, facts = _read(path, stored)
        self.config: TransformerConfig = facts.config
        self.recorded = facts.reference
        self.ids = tuple(facts.reference["probe_ids"])
        self.references = self._references()
        self.decoder = _decoder(self.config, self.tensors)

    @property
    def reference(self) -> Measured:
        return self.references["as recorded"]

    def _references(self) -> dict[str, Measured]:
        """The reference as `apr import` records it, and as other machines might."""
        model = build_transformers_model(self.config, self.tensors)
        references = {"as recorded": run_reference(model, self.ids)}
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        references["1 thread"] = run_reference(model, self.ids)
        torch.set_num_threads(before)
        with torch.backends.mkldnn.flags(enabled=False):
            references["without oneDNN"] = run_reference(model, self.ids)
        del model
        gc.collect()
        return references


def _read(path: Path, stored: str) -> tuple[dict[str, np.ndarray], Any]:
    """The tensors of a file, rounded to a stored dtype, and what it says of itself."""
    with open_apr(path) as file:
        facts = read_facts(file)
        tensors = {name: _rounded(file.as_f32(name), stored, name) for name in model_tensors(file)}
    assert facts.reference is not None
    return tensors, facts


def _rounded(values: np.ndarray, stored: str, name: str) -> np.ndarray:
    if stored == "keep":
        return np.array(values)
    return widen(round_to(values, stored.upper(), name), stored.upper())


@torch.no_grad()
def _decoder(config: TransformerConfig, tensors: Mapping[str, np.ndarray]) -> Decoder:
    with torch.device("meta"):
        decoder = Decoder(config)
    decoder.to_empty(device="cpu")
    for name, parameter in decoder.named_parameters():
        parameter.copy_(torch.from_numpy(tensors[name]))
    return decoder


def measure_model(path: Path, step: str, kept: dict[str, Any], say: Say, save: Callable[[], None]) -> None:
    """Run one step of the measurement on one model; figures go into `kept`."""
    say(f"{path.stem}")
    if step == "stored":
        for stored in ("bf16", "f16"):
            subject = Subject(path, stored)
            _noise(subject, stored, kept, say)
            save()
        return
    subject = Subject(path, "keep")
    if step == "processors":
        reference = subject.reference
        del subject
        kept["processors"] = _elsewhere(path, reference, say)
        return
    if step == "noise":
        kept["config"] = subject.config.to_dict()
        kept["reference_loss"] = float(subject.reference.token_losses.mean())
        kept["num_predictions"] = len(subject.ids) - 1
        kept["spread"] = _spread(subject.reference)
        kept["recorded"] = _against_file(subject)
        _noise(subject, "keep", kept, say)
    if step == "faults":
        _faults(subject, kept, say, save)


def _spread(reference: Measured) -> dict[str, float]:
    """How much of each block's size is one position: the largest share, and the largest position's."""
    shares = [float((b.row_sizes**2).max() / (b.row_sizes**2).sum()) for b in reference.blocks]
    return {"greatest_share_of_one_position": max(shares), "median_over_blocks": float(np.median(shares))}


def _against_file(subject: Subject) -> dict[str, float]:
    """The reference computed here beside the one that the file carries."""
    loss = float(subject.reference.token_losses.mean())
    pairs = zip(subject.recorded["blocks"], subject.reference.blocks, strict=True)
    gaps = [relative_difference(want, have.figures)[1] for want, have in pairs]
    return {"loss": abs(loss - subject.recorded["loss"]), "block": max(gaps)}


def _noise(subject: Subject, stored: str, kept: dict[str, Any], say: Say) -> None:
    noise = kept.setdefault("noise", {})
    names = None if stored == "keep" else DISTINCT
    for name, dtype in DTYPES.items():
        ways = variations(dtype, names)
        noise[f"{name}, stored {stored}"] = {way.name: _vary(subject, way, say) for way in ways}
    noise[f"reduced, stored {stored}"] = {way.name: _vary(subject, way, say) for way in REDUCED}
    noise[f"references, stored {stored}"] = {
        name: distance(subject.reference, other) for name, other in subject.references.items()
    }


def _vary(subject: Subject, way: Variation, say: Say) -> dict[str, Any]:
    with way.on(subject.decoder) as how:
        found = run_ours(subject.decoder, subject.ids, how)
    apart = distance(subject.reference, found)
    # Against the reference as another machine would have recorded it.
    others = [distance(other, found) for other in subject.references.values()]
    apart["loss_of_any_reference"] = max(each["loss"] for each in others)
    apart["block_of_any_reference"] = max(each["block"] for each in others)
    _tell(say, f"{str(how.dtype)[6:]:9}{way.name}", apart)
    return apart


def _tell(say: Say, name: str, apart: Mapping[str, Any]) -> None:
    keys = (
        "loss",
        "token_loss_max",
        "block",
        "projections",
        "row_projections",
        "row_sizes",
        "row_values",
        "state",
    )
    say(f"  {name:62}" + " ".join(f"{apart[k]:9.2e}" if apart[k] is not None else "      NaN" for k in keys))


def _faults(subject: Subject, kept: dict[str, Any], say: Say, save: Callable[[], None]) -> None:
    found = kept["faults"] = {}
    for fault in (*COMPUTATION_FAULTS, *CONFIG_FAULTS, *WEIGHT_FAULTS):
        if not fault.applies(subject.config):
            continue
        found[fault.name] = {
            "kind": fault.kind,
            "harmless": fault.harmless,
            **{name: _plant(subject, fault, dtype, say) for name, dtype in DTYPES.items()},
        }
        save()
    # Everything must be put back: the plain pass gives the plain figures again.
    again = distance(subject.reference, run_ours(subject.decoder, subject.ids))
    assert again["block"] <= 10 * kept["noise"]["fp32, stored keep"]["as step zero runs it"]["block"], again


def _plant(subject: Subject, fault: Fault, dtype: torch.dtype, say: Say) -> dict[str, Any]:
    site = Site(decoder=subject.decoder, ids=subject.ids)
    with fault.plant(site):
        found = run_ours(subject.decoder, subject.ids, replace(PLAIN, dtype=dtype), site.head)
    apart = distance(subject.reference, found)
    _tell(say, f"{str(dtype)[6:]:9}{fault.name}", apart)
    return apart


def _elsewhere(path: Path, reference: Measured, say: Say) -> dict[str, Any]:
    """Measure plain passes in processes whose libraries leave instruction sets out, against the reference made here."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "reference"
        kept.write_bytes(pickle.dumps(reference))
        for processor, settings in PROCESSORS.items():
            command = [sys.executable, "-m", "bench.tolerance.model", str(path), str(kept)]
            done = subprocess.run(
                command, env=os.environ | settings, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"{processor}: {done.stderr[-2000:]}")
            found[processor] = json.loads(done.stdout.strip().splitlines()[-1])
            for name, apart in found[processor].items():
                _tell(say, f"{processor}, {name}", apart)
    return found


def _plain_passes(path: Path, reference: Measured) -> dict[str, Any]:
    tensors, facts = _read(path, "keep")
    decoder, ids = _decoder(facts.config, tensors), tuple(facts.reference["probe_ids"])
    arrangements = {
        "fp32": PLAIN,
        "fp32, batch of 4": Arrangement(num_others=3, row=2),
        "fp32, padded by 128": Arrangement(pad=128),
        "bf16": Arrangement(dtype=torch.bfloat16),
    }
    return {name: distance(reference, run_ours(decoder, ids, how)) for name, how in arrangements.items()}


if __name__ == "__main__":
    print(json.dumps(_plain_passes(Path(sys.argv[1]), pickle.loads(Path(sys.argv[2]).read_bytes()))))
