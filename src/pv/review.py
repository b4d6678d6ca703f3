"""Judge what a path names: one file with what it depends on, or a folder as one corpus."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from pv.artifacts import Artifact, Other, corpus_of, files_of, read_artifact, with_dependencies
from pv.contract.contract import Contract
from pv.corpus import Corpus
from pv.finding import Finding, Severity
from pv.judge import judge
from pv.profile import Profile
from pv.rules.rule import Around
from pv.suppress import suppressed


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A file and what was found in it."""

    path: str
    artifact: Artifact = field(repr=False)
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """Findings that make it invalid."""
        return sum(f.severity is Severity.ERROR and f.counts for f in self.findings)

    @property
    def warnings(self) -> int:
        """Findings that do not."""
        return sum(f.severity is Severity.WARNING and f.counts for f in self.findings)


def review(path: Path, profile: Profile, today: date, *, project: bool = False) -> tuple[Judged, ...]:
    """Judge a file, or every file of a folder together.

    Args:
        path: a file or a folder.
        profile: whose rules are put.
        today: what dates are compared with.
        project: whether to look at the files of the project that contracts name.

    Raises:
        PathMissing, PathUnreadable, NoContracts: there is nothing to judge.
    """
    artifacts = tuple(read_artifact(file, profile) for file in files_of(path))
    around = Around(corpus=_corpus(artifacts, path), today=today)
    return tuple(_judged(artifact, around, profile, project) for artifact in artifacts)


def _corpus(artifacts: tuple[Artifact, ...], path: Path) -> Corpus:
    if not path.is_dir() and isinstance(artifacts[0], Contract):
        return with_dependencies(artifacts[0])
    return corpus_of(artifacts, path)


def _judged(artifact: Artifact, around: Around, profile: Profile, project: bool) -> Judged:
    findings = judge(artifact, around, profile, project=project)
    if profile is Profile.STRICT and isinstance(artifact, Contract | Other):
        root = artifact.node if isinstance(artifact, Contract) else artifact.root
        findings = suppressed(findings, artifact.text, root, artifact.path, project=project)
    return Judged(path=artifact.path, artifact=artifact, findings=findings)
