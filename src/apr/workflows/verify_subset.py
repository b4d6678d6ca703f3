"""What a run that trains a part of a model left as it was, and what became of its adapters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from apr.aprfile.keys import OWN_KEY
from apr.aprfile.metadata import read_facts
from apr.aprfile.reader import AprFile, open_apr
from apr.arch.lora import ADAPTER
from apr.base.errors import AprError
from apr.base.files import canonical_json, sha256_bytes, sha256_file
from apr.model.load import stored_tensor
from apr.model.lora import merged
from apr.stepzero.verify import Check, compared, is_number, unjudged
from apr.train.certify_subset import drawn_digests, kept_digest
from apr.train.errors import StateBad
from apr.train.merge import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MergeProof, adapter_config
from apr.train.resume_subset import read_adapters, same_merge
from apr.train.run_state import ADAPTERS, adapter_folder, read_state, saved_steps, state_name
from apr.train.subset import Subset, subset_of
from apr.workflows.verify_documents import Run, agreement, read_document


def subset_checks(run: Run, init: Path | None) -> Iterator[Check]:
    """Hold every checkpoint against what the plan says is trained.

    Args:
        run: the parsed documents.
        init: the checkpoint that the run started from, where it is at hand: merges are then made again.
    """
    inputs = (run.certificate or {}).get("inputs", {})
    marks = [name for name in ("frozen", "adapters") if name in inputs]
    wanted = ["frozen"] * bool(run.plan.freeze or run.plan.lora) + ["adapters"] * bool(run.plan.lora)
    if run.certificate is not None and (marks or wanted):
        claim = "the certificate names the digests of what is frozen, as the plan implies"
        yield compared("certificate.subset", claim, marks, wanted)
    if not wanted:
        return
    for path in sorted(run.folder.glob("ckpt/*.apr")):
        name = path.relative_to(run.folder).as_posix()
        if name == run.unfinished:
            continue  # told already, see `checkpoint_checks`
        try:
            with open_apr(path, "structure") as file:
                yield from _checkpoint(run, name, file, inputs, init)
        except AprError as error:
            claim = "the checkpoint can be held against what the plan trains"
            yield compared(f"{name.removesuffix('.apr')}.subset", claim, error.message, "it can")
    if run.plan.lora:
        yield from _states(run)


def _checkpoint(
    run: Run, name: str, file: AprFile, inputs: Mapping[str, Any], init: Path | None
) -> Iterator[Check]:
    config, check_id = read_facts(file).config, name.removesuffix(".apr")
    subset = subset_of(run.plan, config)
    claim = "what the run does not train is what it was before step 1"
    digests = (file.metadata.get(OWN_KEY) or {}).get("digests") or {}
    yield compared(f"{check_id}.frozen", claim, kept_digest(subset, digests), inputs.get("frozen"))
    if subset.lora is None:
        return
    drawn = sha256_bytes(canonical_json(drawn_digests(subset, run.plan.seed)))
    claim = "its adapters began as the plan's seed draws them"
    yield compared(f"{check_id}.drawn", claim, inputs.get("adapters"), drawn)
    yield from _merge(run, name, subset, inputs)
    claim = "its merged weights are the base's with the adapters beside it"
    if init is None:
        yield unjudged(f"{check_id}.merged", claim, "not at hand", "--init with the base of the run")
        return
    yield compared(f"{check_id}.merged", claim, _unlike(run.folder / name, file, subset, init), "all alike")


def _merge(run: Run, name: str, subset: Subset, inputs: Mapping[str, Any]) -> Iterator[Check]:
    """The proof that was recorded at the save: complete, of this base and plan, and within its limit."""
    said, check_id = run.epochs.get(name, {}).get("merge") or {}, name.removesuffix(".apr")
    folder = run.folder / adapter_folder(name)
    weights = folder / ADAPTER_WEIGHTS
    sha = sha256_file(weights) if weights.is_file() else "missing"
    figures: dict[str, Any] = {key: said.get(key) for key in MergeProof.__slots__}
    is_whole = all(is_number(value) for value in figures.values())
    proof = MergeProof(**figures) if is_whole else None
    defect = proof.defect if proof else "it is not whole"
    rows = [
        ("lora", said.get("lora"), run.plan.lora),
        ("base_digest", said.get("base_digest"), inputs.get("init")),
        ("num_merged", said.get("num_merged"), len(subset.merged)),
        ("limit", said.get("limit"), proof.limit if proof else None),
        ("adapter_sha", said.get("adapter_sha"), sha),
        ("defect", defect, ""),
    ]
    yield agreement(f"{check_id}.merge", "the merge was proved, of this base, plan and adapter", rows)
    checks, document = read_document(run.folder, f"{adapter_folder(name)}/{ADAPTER_CONFIG}")
    yield from checks
    assert subset.lora is not None
    claim = "the adapter's configuration is the plan's"
    yield compared(f"{check_id}.adapter", claim, document, adapter_config(subset.lora))


def _unlike(path: Path, file: AprFile, subset: Subset, init: Path) -> str:
    """The first merged weight that base and adapter do not give again."""
    assert subset.lora is not None
    try:
        adapters = read_adapters(path.parent / f"{path.stem}.adapter" / ADAPTER_WEIGHTS, 0)
        with open_apr(init, "structure") as base:
            for name in sorted(subset.merged):
                a, b = (adapters[f"{name.removesuffix('.weight')}{ADAPTER}{part}"] for part in "ab")
                again = merged(stored_tensor(base, name).float(), a, b, subset.lora.scale)
                if not same_merge(again, file.array(name)):
                    return name
    except (AprError, KeyError, RuntimeError) as error:
        return str(error)
    return "all alike"


def _states(run: Run) -> Iterator[Check]:
    """The adapters of every state are those that it says, and those beside its checkpoint."""
    for step in saved_steps(run.folder):
        name = state_name(step)
        path = run.folder / name / ADAPTERS
        try:
            state = read_state(run.folder, step)
        except StateBad:
            continue  # said where states are judged
        sha = sha256_file(path) if path.is_file() else "missing"
        rows: list[tuple[str, Any, Any]] = [("adapters_sha", state.adapters_sha, sha)]
        if (said := run.epochs.get(state.weights)) is not None:
            rows.append(("adapter_sha", (said.get("merge") or {}).get("adapter_sha"), sha))
        yield agreement(f"{name}.adapters", "the adapters have the digest that its documents say", rows)
