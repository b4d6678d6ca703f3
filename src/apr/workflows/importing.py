"""`apr import`: a foreign checkpoint becomes an .apr file that carries its own reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apr import __version__
from apr.arch.config import TransformerConfig
from apr.arch.inventory import inventory
from apr.base.errors import BadOption, OutputExists
from apr.convert.checkpoint import CheckpointSource, TieRequest, describe_file
from apr.convert.findings import Rule
from apr.convert.hf_source import tokenizer_files
from apr.convert.importer import import_checkpoint
from apr.convert.manifest import read_manifest
from apr.convert.source import open_source
from apr.convert.storage import DtypeRequest
from apr.convert.trust import establish_trust, parse_sha256
from apr.model.adapters import tracer
from apr.model.decoder import Decoder
from apr.stepzero.messages import capturing, require_discharged
from apr.stepzero.oracle import record_with_transformers, require_oracle
from apr.stepzero.probe import plain_probe_ids, probe_ids
from apr.stepzero.reference import Reference, record
from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.engine import TextTokenizer
from apr.train.inputs import read_tokenizer

Recorder = Callable[[TransformerConfig, Mapping[str, np.ndarray]], dict[str, Any]]


def import_model(
    location: str,
    out: Path,
    *,
    dtype: DtypeRequest = "keep",
    tie: TieRequest = "auto",
    oracle: str = "transformers",
    tokenizer_path: Path | None = None,
    expect_sha256: str | None = None,
    manifest_path: Path | None = None,
    accepted: tuple[Rule, ...] = (),
    force: bool = False,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Import a checkpoint and record its reference.

    Args:
        location: a GGUF file, a Hugging Face folder, or hf://org/name[@revision].
        out: the .apr file to make.
        dtype: `f32`, `bf16`, `f16`, or `keep` for the stored types where the container has them.
        tie: whether the head is the embedding; `auto` decides from the file.
        oracle: `transformers` (grade A), `self` (grade B) or `none` (grade C).
        tokenizer_path: taken instead of the source's own.
        expect_sha256: what the one file of weights must have; 64 hexadecimal digits.
        manifest_path: lists the sha256 that every file must have.
        accepted: the rules whose findings are meant to be there (see `apr.convert.findings`).
        force: replace `out` when it exists.
        on_progress: told what is being done.

    Returns:
        {path, size_bytes, file_digest, source, architecture, parameter_count, tensor_count, tied, tie, reference,
        findings, accepted, trust}.

    Raises:
        AprError: whatever is wrong with the source, named; nothing is left at `out`.
    """
    if oracle == "transformers":
        require_oracle()
    if out.exists() and not force:
        raise OutputExists(path=str(out))  # before the source is read, not after
    expected = None if expect_sha256 is None else parse_sha256(expect_sha256)
    manifest = None if manifest_path is None else read_manifest(manifest_path)
    source = open_source(location, tie, on_progress, read_tokenizer=tokenizer_path is None)
    _require_apart(out, location, source)
    if tokenizer_path:
        source = _with_tokenizer(source, tokenizer_path)
    # Before the reference, which takes longest, and before anything is written.
    trust = establish_trust(source, location, expect_sha256=expected, manifest=manifest)
    made = import_checkpoint(
        source,
        out,
        dtype=dtype,
        tokenizer=source.tokenizer,
        record_reference=_recorder(oracle, source.tokenizer),
        trust=trust,
        accepted=accepted,
        on_progress=on_progress,
        force=force,
    )
    reference = made.reference
    kept = ("grade", "oracle", "loss", "num_tokens")
    return {
        "path": str(made.path),
        "size_bytes": made.size_bytes,
        "file_digest": made.file_digest,
        "source": location,
        "architecture": made.config.family,
        "parameter_count": made.num_parameters,
        "tensor_count": made.num_tensors,
        "dtypes": dict(made.dtypes),
        "tied": made.tie.tied,
        "tie": {"rule": made.tie.rule, "figures": made.tie.figures},
        "reference": {key: reference[key] for key in kept} if reference else None,
        "findings": [asdict(finding) for finding in made.findings],
        "accepted": list(accepted),
        "trust": trust.to_dict(),
    }


def _require_apart(out: Path, location: str, source: CheckpointSource) -> None:
    """`--force` replaces an earlier result, never what is being imported."""
    folder = Path(location) if Path(location).is_dir() else Path(location).parent
    read = (folder / file.name for file in source.files)
    if out.exists() and any(path.exists() and out.samefile(path) for path in read):
        raise BadOption(option="--output", value=str(out), limit="another file than those that are imported")


def _with_tokenizer(source: CheckpointSource, path: Path) -> CheckpointSource:
    """The source with another tokenizer, whose files count among those that were read."""
    definition = read_tokenizer(path)
    files = (describe_file(file) for file in tokenizer_files(path))
    return replace(source, tokenizer=definition, files=(*source.files, *files))


def _recorder(oracle: str, tokenizer: TokenizerDefinition | None) -> Recorder | None:
    if oracle == "none":
        return None

    def recorded(config: TransformerConfig, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        _, limit = config.sequence_limit
        if tokenizer is None:
            ids = plain_probe_ids(config.vocab_size, limit)
        else:
            ids = probe_ids(TextTokenizer(tokenizer), limit)
        record_it = record_with_transformers if oracle == "transformers" else record_ourselves
        with capturing() as captured:
            reference = record_it(config, tensors, ids)
        require_discharged(captured)
        return reference.to_dict()

    return recorded


@torch.no_grad()
def record_ourselves(
    config: TransformerConfig, tensors: Mapping[str, np.ndarray], ids: list[int]
) -> Reference:
    """Record a grade B reference: our own forward pass, which proves later loads equal to this one and no more."""
    with torch.device("meta"):
        decoder = Decoder(config)
    decoder = decoder.to_empty(device="cpu")
    parameters = dict(decoder.named_parameters())
    for spec in inventory(config):
        parameters[spec.name].copy_(torch.from_numpy(np.array(tensors[spec.name])))
    return record(tracer(decoder), ids, grade="B", oracle=f"apr {__version__}, fp32")
