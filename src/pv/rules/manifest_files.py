"""The files that a publish manifest lists."""

from __future__ import annotations

from collections.abc import Iterator

from pv.artifacts import Other
from pv.tree.nodes import Block, Items


def manifest_files(document: Other) -> Iterator[Block]:
    """Each file of a manifest that is a mapping.

    Args:
        document: a publish manifest.
    """
    files = document.root.get("files") if isinstance(document.root, Block) else None
    if isinstance(files, Items):
        yield from (item for item in files.items if isinstance(item, Block))
