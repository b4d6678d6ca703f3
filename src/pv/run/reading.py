"""Read the contracts that a path names, together with what in it is not one that can be run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pv.artifacts import Artifact, Other, corpus_of, files_of, read_artifact
from pv.contract.contract import Contract, Unreadable
from pv.corpus import Corpus
from pv.errors import NoContracts
from pv.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a path holds."""

    path: Path
    artifacts: tuple[Artifact, ...] = field(repr=False)
    corpus: Corpus = field(repr=False)

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """Those that can be read, by file name."""
        return tuple(self.corpus.contracts.values())

    @property
    def unread(self) -> tuple[tuple[str, str], ...]:
        """Files whose claims cannot be run, with the first reason."""
        broken = [a for a in self.artifacts if not isinstance(a, Contract | Other)]
        return (
            *((artifact.path, _reason(artifact)) for artifact in broken),
            *((double.path, "another file has its name already") for double in self.corpus.doubles),
        )

    @property
    def root(self) -> Path:
        """The root of the project."""
        return self.corpus.root


def read_contracts(path: Path) -> Read:
    """Read a file, or every file of a folder, by the strict profile.

    Args:
        path: a file or a folder.

    Raises:
        PathMissing, PathUnreadable, NoContracts.
    """
    artifacts = tuple(read_artifact(file, Profile.STRICT) for file in files_of(path))
    if all(isinstance(artifact, Other) for artifact in artifacts):
        raise NoContracts(path=str(path))
    return Read(path=path, artifacts=artifacts, corpus=corpus_of(artifacts, path))


def _reason(artifact: Artifact) -> str:
    if isinstance(artifact, Unreadable):
        problem = artifact.problems[0]
        return f"{problem.place}: {problem.says}"
    return str(artifact)
