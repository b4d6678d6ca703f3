"""`apr inspect` and `apr tensors`: what a file is and what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from apr.aprfile.metadata import read_facts
from apr.aprfile.reader import AprFile, open_apr
from apr.arch.counts import parameter_count


def inspect_file(path: Path) -> dict[str, Any]:
    """Check every byte of an .apr file and describe it.

    Returns:
        {format, dialect, architecture, config, tensor_count, parameter_count, tied, tokenizer, reference, sources,
        trust, findings, accepted, producer, lineage, checksums, size_bytes, file_digest}.

    Raises:
        AprError: the file is not a whole .apr model file.
    """
    with open_apr(path, "full") as file:
        facts = read_facts(file)
        reference = facts.reference
        return {
            "format": "APR v2",
            "dialect": file.dialect,
            "architecture": facts.config.family,
            "config": facts.config.to_dict(),
            "tensor_count": len(file.entries) - len(file.aliases),
            "parameter_count": parameter_count(facts.config),
            "tied": facts.config.tie_word_embeddings,
            "tie": facts.tie,
            "tokenizer": facts.tokenizer,
            "reference": {key: reference[key] for key in ("grade", "oracle", "loss", "num_tokens")}
            if reference
            else None,
            "sources": list(facts.sources),
            "trust": facts.trust,
            "findings": list(facts.findings),
            "accepted": list(facts.accepted),
            "producer": facts.producer,
            "lineage": facts.lineage,
            "checksums": _checksums(file),
            "size_bytes": file.size_bytes,
            "file_digest": file.file_digest,
        }


def list_tensors(path: Path, pattern: str | None = None) -> dict[str, Any]:
    """List the tensors of an .apr file, checking its structure but not its digests.

    Args:
        path: the file.
        pattern: only names that hold this text.

    Returns:
        {file, tensor_count, total_size_bytes, tensors: [{name, dtype, shape, size_bytes, alias_of, sha256}]}.
    """
    with open_apr(path, "structure") as file:
        own = file.metadata.get("apr_pretrain") or {}
        digests = own.get("digests") or {}
        rows = [
            {
                "name": name,
                "dtype": entry.dtype,
                "shape": list(entry.shape),
                "size_bytes": entry.size_bytes,
                "alias_of": file.aliases.get(name),
                "sha256": digests.get(name),
            }
            for name, entry in file.entries.items()
            if pattern is None or pattern in name
        ]
    return {
        "file": str(path),
        "tensor_count": len(rows),
        "total_size_bytes": sum(row["size_bytes"] for row in rows if row["alias_of"] is None),
        "tensors": rows,
    }


def _checksums(file: AprFile) -> dict[str, str]:
    sums = file.checksums
    return {"header": sums.header, "footer": sums.footer, "digests": sums.digests}
