"""Turn a checkpoint source into an .apr file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import apr
from apr.aprfile.metadata import ModelFacts, model_metadata
from apr.aprfile.placement import TensorSource
from apr.aprfile.writer import write_apr
from apr.arch.config import TransformerConfig
from apr.arch.counts import parameter_count
from apr.arch.inventory import EMBEDDING, HEAD
from apr.base.errors import OutputExists
from apr.convert.checkpoint import CheckpointSource, Progress, TieDecision
from apr.convert.errors import TokenizerTooLarge
from apr.convert.findings import Finding, Inspection, Rule
from apr.convert.storage import DtypeRequest, PlannedTensor, StoredValues, plan_storage
from apr.convert.trust import Trust
from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.special import parse_document, vocabulary

_FORMATS = {"gguf": "gguf", "huggingface": "safetensors"}  # the field's words for them
RecordReference = Callable[[TransformerConfig, Mapping[str, np.ndarray]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedCheckpoint:
    """What was written: `dtypes` counts tensors by stored dtype, `file_digest` is the reader's."""

    path: Path
    size_bytes: int
    file_digest: str
    config: TransformerConfig
    num_tensors: int
    num_parameters: int
    dtypes: Mapping[str, int]
    tie: TieDecision
    tokenizer_sha256: str | None
    reference: Mapping[str, Any] | None
    findings: tuple[Finding, ...]


def import_checkpoint(
    source: CheckpointSource,
    out: Path,
    *,
    tokenizer: TokenizerDefinition | None,
    record_reference: RecordReference | None,
    dtype: DtypeRequest = "keep",
    trust: Trust | None = None,
    accepted: tuple[Rule, ...] = (),
    on_progress: Progress | None = None,
    force: bool = False,
) -> ImportedCheckpoint:
    """Write a source as one .apr file, with config, tokenizer, digests, origin and reference in it.

    Args:
        source: from `open_source`.
        out: the file to write, whole or not at all.
        tokenizer: takes the place of the source's own; None keeps that one, where there is one.
        record_reference: computes what the weights must give, from the config and the tensors as they will be
            stored, widened to fp32, one at a time; None records no reference.
        dtype: how tensors are stored. `keep` loses nothing (see `apr.convert.storage`).
        trust: what the source's files were held against, to be recorded.
        accepted: the rules whose findings are meant to be there, to be recorded.
        on_progress: told what is being done.
        force: replace `out` where it is there.

    Raises:
        OutputExists: `out` is there, and `force` is not given.
        TokenizerTooLarge: the tokenizer has ids without an embedding row.
        TensorNotFinite, DtypeOverflows: a tensor cannot be stored as asked.
        CannotWrite: no space, or no permission.
    """
    if out.exists() and not force:
        raise OutputExists(path=str(out))
    tokenizer = tokenizer or source.tokenizer
    if tokenizer is not None:
        _require_rows(tokenizer, source.config)
    plan = plan_storage(source, dtype)
    report = on_progress or (lambda what, done, total: None)
    reference, inspection = None, Inspection(plan)
    if record_reference is not None:
        report("recording the reference", 0, 1)
        reference = record_reference(source.config, StoredValues(plan, on_read=inspection.look))
    findings = inspection.findings(report)
    written = write_apr(
        out,
        model_metadata(
            _facts(source, tokenizer, reference, findings=findings, accepted=accepted, trust=trust),
            license=source.license,
            original_format=_FORMATS[source.kind],
        ),
        [_tensor_source(stored) for stored in plan.values()],
        aliases={HEAD: EMBEDDING} if source.tie.tied else {},
        on_progress=partial(report, "writing"),
    )
    return ImportedCheckpoint(
        path=out,
        size_bytes=written.size_bytes,
        file_digest=written.file_digest,
        config=source.config,
        num_tensors=len(plan),
        num_parameters=parameter_count(source.config),
        dtypes=dict(Counter(stored.dtype for stored in plan.values())),
        tie=source.tie,
        tokenizer_sha256=tokenizer.sha256 if tokenizer else None,
        reference=reference,
        findings=findings,
    )


def _require_rows(tokenizer: TokenizerDefinition, config: TransformerConfig) -> None:
    # The count alone does not do: ids may have holes, and the largest one is what is looked up.
    ids = vocabulary(parse_document(tokenizer.json_text, "the tokenizer"), "the tokenizer").values()
    largest = max(ids, default=-1)
    if len(set(ids)) > config.vocab_size or largest >= config.vocab_size:
        raise TokenizerTooLarge(vocab_size=len(set(ids)), max_id=largest, rows=config.vocab_size)


def _facts(
    source: CheckpointSource,
    tokenizer: TokenizerDefinition | None,
    reference: dict[str, Any] | None,
    *,
    findings: tuple[Finding, ...],
    accepted: tuple[Rule, ...],
    trust: Trust | None,
) -> ModelFacts:
    return ModelFacts(
        config=source.config,
        tokenizer_json=tokenizer.json_text if tokenizer else None,
        tokenizer=tokenizer.to_dict() if tokenizer else None,
        sources=tuple(asdict(file) for file in source.files),
        tie=asdict(source.tie),
        reference=reference,
        producer={"name": "apr import", "version": apr.__version__},
        lineage=None,
        findings=tuple(asdict(finding) for finding in findings),
        accepted=accepted,
        trust=trust.to_dict() if trust else None,
    )


def _tensor_source(stored: PlannedTensor) -> TensorSource:
    return TensorSource(
        name=stored.tensor.name, dtype=stored.dtype, shape=stored.tensor.shape, produce=stored.stored
    )
