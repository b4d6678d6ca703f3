"""Contracts, milestones and files as they were at a commit, from git."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath

from pv.artifacts import SUFFIXES, Other, shape_of
from pv.change.errors import NoBase, NotComparable
from pv.contract.contract import Contract, Unreadable, read_contract
from pv.errors import YamlWrong
from pv.profile import Profile
from pv.tree.load import load_text, load_tree


def git(root: Path, *arguments: str, ref: str) -> bytes:
    """What git prints.

    Args:
        root: of the project.
        arguments: of git.
        ref: that is asked about, for the error.

    Raises:
        NoBase: git is not there, or says no.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, check=False, timeout=120
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NoBase(ref=ref, reason=str(error)) from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise NoBase(ref=ref, reason=said or f"git exited with {done.returncode}")
    return done.stdout


def merge_base(root: Path, ref: str) -> str:
    """The commit where the work since then began.

    Args:
        root: of the project.
        ref: a commit, branch or tag.

    Raises:
        NoBase.
    """
    return git(root, "merge-base", "--", ref, "HEAD", ref=ref).decode().strip()


def artifacts_at(root: Path, commit: str, folder: Path) -> tuple[Contract | Other, ...]:
    """What a folder of contracts held.

    Args:
        root: of the project.
        commit: that git knows.
        folder: where they lie, now and then.

    Raises:
        NoBase, NotComparable.
    """
    inside = _below(root, folder)
    listed = git(root, "ls-tree", "-r", "-z", "--name-only", "--full-tree", commit, "--", inside, ref=commit)
    found: list[Contract | Other] = []
    for raw in listed.split(b"\0"):
        name = PurePosixPath(raw.decode("utf-8", "surrogateescape"))
        if name.suffix in SUFFIXES and not any(part.startswith(".") for part in name.parts):
            found.append(_read(git(root, "show", f"{commit}:{name}", ref=commit), str(name)))
    return tuple(found)


def _below(root: Path, folder: Path) -> str:
    """The folder as git spells it, from the top of its working tree."""
    top = Path(git(root, "rev-parse", "--show-toplevel", ref="HEAD").decode().strip())
    place = folder.resolve()
    return place.relative_to(top.resolve()).as_posix() if place.is_relative_to(top.resolve()) else str(place)


def _read(data: bytes, path: str) -> Contract | Other:
    """A contract, or a file of another shape, from its bytes.

    Raises:
        NotComparable: it should be a contract and cannot be read.
    """
    try:
        text = load_text(data, path)
        root = load_tree(text, path)
    except YamlWrong as error:
        raise NotComparable(path=path, reason=str(error.what)) from None
    shape = shape_of(root)
    if shape != "contract":
        return Other(shape=shape, path=path, text=text, root=root)
    contract = read_contract(root, text, path, Profile.STRICT)
    if isinstance(contract, Unreadable):
        raise NotComparable(path=path, reason=contract.problems[0].says)
    return contract


def touched(root: Path, commit: str) -> frozenset[str]:
    """Files that are not as they were, from the root of the project; new ones too, and those that are gone.

    Args:
        root: of the project.
        commit: to compare with.

    Raises:
        NoBase.
    """
    changed = git(root, "diff", "--name-only", "-z", "--relative", commit, "--", ".", ref=commit)
    new = git(root, "ls-files", "-z", "--others", "--exclude-standard", ref=commit)
    names = [*changed.split(b"\0"), *new.split(b"\0")]
    return frozenset(name.decode("utf-8", "surrogateescape") for name in names if name)
