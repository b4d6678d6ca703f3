"""Find files that `pv` judges, say by their shape what each is, and read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pv.contract.contract import Contract, Unreadable, read_contract
from pv.corpus import Corpus, project_root
from pv.errors import NoContracts, PathMissing, PathUnreadable, YamlWrong
from pv.profile import Profile
from pv.tree.load import load_text, load_tree, read_bytes
from pv.tree.nodes import Block, Node

Shape: TypeAlias = Literal["contract", "binding", "publish-manifest", "external", "milestones", "waivers"]

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A file of another shape than a contract's."""

    shape: Shape
    path: str
    text: str
    root: Node


Artifact: TypeAlias = Contract | Unreadable | Other | YamlWrong | PathUnreadable


def shape_of(root: Node) -> Shape:
    """What a document is, by the names of its keys; a contract when nothing else."""
    keys = {entry.key.text for entry in root.entries} if isinstance(root, Block) else set()
    if "metadata" in keys:
        return "contract"
    if {"bindings", "target_crate"} <= keys:
        return "binding"
    if {"model_id", "provenance"} <= keys:
        return "publish-manifest"
    for shape in ("milestones", "waivers"):
        if shape in keys:
            return shape
    return "external" if "schema" in keys else "contract"


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that a path names: itself, or all YAML files below it that are not hidden, sorted.

    Raises:
        PathMissing: nothing is there.
        NoContracts: it is a folder without such files.
    """
    try:
        if path.is_dir():
            found = tuple(sorted(_below(path)))
            if not found:
                raise NoContracts(path=str(path))
            return found
        if not path.exists():
            raise PathMissing(path=str(path))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise PathUnreadable(path=str(path), reason=getattr(error, "strerror", None) or str(error)) from None
    return (path,)


def _below(folder: Path) -> Iterator[Path]:
    for suffix in SUFFIXES:
        for path in folder.rglob(f"*{suffix}"):
            parts = path.relative_to(folder).parts
            if path.is_file() and not any(part.startswith(".") for part in parts):
                yield path


def read_artifact(path: Path, profile: Profile) -> Artifact:
    """Read a file, whatever it is; what is wrong with it comes back as a value.

    Args:
        path: a file.
        profile: which keys of a contract count.
    """
    try:
        text = load_text(read_bytes(path), str(path))
        root = load_tree(text, str(path))
    except (YamlWrong, PathUnreadable) as error:
        return error
    except PathMissing:  # taken away in between, or a link to nowhere
        return PathUnreadable(path=str(path), reason="it is not there any more")
    shape = shape_of(root)
    if shape == "contract":
        return read_contract(root, text, str(path), profile)
    return Other(shape=shape, path=str(path), text=text, root=root)


def corpus_of(artifacts: tuple[Artifact, ...], place: Path) -> Corpus:
    """The corpus that read files make.

    Args:
        artifacts: what was read.
        place: the file or folder that was named, for the root of the project.
    """
    contracts = [artifact for artifact in artifacts if isinstance(artifact, Contract)]
    unreadable = frozenset(
        Path(artifact.path).stem for artifact in artifacts if not isinstance(artifact, Contract | Other)
    )
    return Corpus.of(contracts, project_root(place), unreadable)


def with_dependencies(contract: Contract) -> Corpus:
    """The corpus of one file: itself and the contracts of its folder that it depends on, directly or not.

    Args:
        contract: what was named.
    """
    folder = Path(contract.path).parent
    read: dict[str, Artifact] = {contract.stem: contract}
    waiting = [contract]
    while waiting:
        for stem in waiting.pop().metadata.depends_on:
            path = folder / f"{stem}.yaml"
            if stem in read or not path.is_file():
                continue
            read[stem] = artifact = read_artifact(path, contract.profile)
            if isinstance(artifact, Contract):
                waiting.append(artifact)
    return corpus_of(tuple(read.values()), Path(contract.path))
