"""Checkpoints from the Hugging Face hub: downloaded by its own client, at one commit, and recorded."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download

from apr.convert.errors import HubLocationBad, HubUnavailable

SCHEME = "hf://"
# Only what an import reads. The patterns are anchored at the top folder, so that a copy in another format
# (onnx/, ...) is not downloaded.
PATTERNS = (
    "config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "README.md",
)
_LOCATION = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def download(location: str) -> tuple[Path, str]:
    """Download a checkpoint, or find it in the hub's cache; a download that was cut off continues.

    Args:
        location: `hf://organisation/name`, with `@revision` for a branch, a tag or a commit.

    Returns:
        The folder, and the commit that the revision stood for.

    Raises:
        HubLocationBad: the location is spelled otherwise.
        HubUnavailable: no network, no such checkpoint, or no access.
    """
    match = _LOCATION.fullmatch(location)
    if match is None:
        raise HubLocationBad(location=location)
    try:
        folder = Path(snapshot_download(match[1], revision=match[2], allow_patterns=list(PATTERNS)))
    # The client's errors have no root of their own: some are OSErrors, some ValueErrors, some bare
    # Exceptions, and a missing network is an error of whichever HTTP library the release uses. Nothing of
    # ours runs inside the call.
    except Exception as error:
        raise HubUnavailable(location=location, reason=_first_line(error)) from error
    if not _COMMIT.fullmatch(folder.name):
        raise HubUnavailable(
            location=location, reason=f"its commit is not known, the client gave {folder.name}"
        )
    return folder, folder.name


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
