"""Open whatever a location names as one kind of value, a `CheckpointSource`."""

from __future__ import annotations

from pathlib import Path

from apr.convert.checkpoint import (
    CheckpointSource,
    Progress,
    SourceFile,
    SourceTensor,
    TieDecision,
    TieRequest,
)
from apr.convert.errors import SourceAmbiguous, SourceIncomplete, SourceMissing
from apr.convert.gguf_source import open_gguf
from apr.convert.hf_source import CONFIG, open_folder
from apr.convert.hub import SCHEME, download

__all__ = [
    "CheckpointSource",
    "Progress",
    "SourceFile",
    "SourceTensor",
    "TieDecision",
    "TieRequest",
    "open_source",
]


def open_source(
    location: str,
    tie: TieRequest = "auto",
    on_progress: Progress | None = None,
    *,
    read_tokenizer: bool = True,
) -> CheckpointSource:
    """Open a .gguf file, a Hugging Face folder, a folder with one .gguf file, or hf://organisation/name[@revision].

    Config, tensors, tie and tokenizer are judged; no tensor is loaded.

    Args:
        location: what to open.
        tie: what the caller says about embedding and head; `auto` lets the files decide, on recorded figures.
        on_progress: told what is being done.
        read_tokenizer: False where the caller brings one, and the source's need not be readable.

    Raises:
        SourceMissing, SourceAmbiguous, SourceIncomplete: the location.
        HubUnavailable, HubLocationBad: see `download`.
        Those of `open_gguf` and `open_folder`.
    """
    if location.startswith(SCHEME):
        folder, revision = download(location)
        return open_folder(
            folder, tie=tie, read_tokenizer=read_tokenizer, revision=revision, on_progress=on_progress
        )
    path = Path(location)
    gguf = _gguf_file(path)
    if gguf is not None:
        return open_gguf(gguf, tie=tie, read_tokenizer=read_tokenizer, on_progress=on_progress)
    return open_folder(path, tie=tie, read_tokenizer=read_tokenizer, on_progress=on_progress)


def _gguf_file(path: Path) -> Path | None:
    """The GGUF file that a path names; None for a Hugging Face folder."""
    if path.is_file() and path.suffix == ".gguf":
        return path
    if not path.is_dir():
        raise SourceMissing(location=str(path))
    files = sorted(path.glob("*.gguf"))
    others = sorted(path.glob("*.safetensors"))
    if len(files) > 1 or (files and others):
        raise SourceAmbiguous(location=str(path), found=", ".join(file.name for file in [*files, *others]))
    if not files and not (path / CONFIG).is_file():
        raise SourceIncomplete(location=str(path), missing=CONFIG)
    return files[0] if files else None
