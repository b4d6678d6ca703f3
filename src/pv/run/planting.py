"""Plant the defect of a control, and say of the run under it whether it shows that the falsifier can fail."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from pv.contract.control import Control, Edit
from pv.run.answer import Answer, Said
from pv.run.execution import Ground
from pv.run.project import INSIDE, Project

_NOT_COPIED = (
    ".git", ".hg", ".venv*", "venv", "node_modules", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache",
    ".hypothesis", ".tox", "evidence", "*.pyc",
)  # fmt: skip
_ASSERTS = re.compile(r"\bassert\b|\bAssertionError\b")


class Shown(StrEnum):
    """What a control shows."""

    CAUGHT = "caught"  # the falsifier failed for the planted defect
    MISSED = "missed"  # it survived the defect
    BROKEN = "broken"  # the defect was not planted, or broke something else than the claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Controlled:
    """A control after its run."""

    planted: str  # the defect, in words
    verdict: Shown
    why: str
    answer: Answer | None = None


class Unplantable(Exception):
    """The defect cannot be planted; the text says why."""


def described(control: Control) -> str:
    """The defect of a control, in words."""
    if control.edit is not None:
        return f"{control.edit.path}: {control.edit.replace!r} -> {control.edit.by!r}"
    if control.patch is not None and control.replacement is not None:
        return f"{control.patch} {control.replacement.how} {control.replacement.value!r}"
    return " ".join(f"{name}={value}" for name, value in control.env.items())


@contextmanager
def planted(control: Control, ground: Ground) -> Iterator[Ground]:
    """The ground with the defect of a control in it.

    Args:
        control: what to plant.
        ground: as the project is.

    Raises:
        Unplantable.
    """
    if control.edit is not None:
        with tempfile.TemporaryDirectory(prefix="pv-copy-") as name:
            yield _edited(control.edit, ground, Path(name))
    elif control.patch is not None and control.replacement is not None:
        plan = {"patch": control.patch, "how": control.replacement.how, "value": control.replacement.value}
        yield _with_plan(ground, plan, ())
    else:
        yield replace(ground, env={**ground.env, **control.env})


def _with_plan(ground: Ground, plan: dict[str, Any], first: tuple[str, ...]) -> Ground:
    """The ground whose Python processes carry out a plan; `first` are folders that they import from first."""
    before = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join([str(INSIDE / "site"), *first, *filter(None, [before])])
    return replace(ground, env={**ground.env, "PV_PLANT": json.dumps(plan), "PYTHONPATH": path})


def _edited(edit: Edit, ground: Ground, folder: Path) -> Ground:
    """A copy of the project with a text replaced, and the environment that imports from the copy."""
    root = ground.project.root
    copy = folder / (root.name or "project")
    original = (root / edit.path).resolve()
    if not original.is_relative_to(root.resolve()) or not original.is_file():
        raise Unplantable(f"there is no file {edit.path} in the project")
    try:
        edited = _replaced(edit, original.read_bytes())
        copy_project(root, copy)
        _rewrite(copy / edit.path, edited, copy, edit)
    except OSError as error:
        raise Unplantable(f"the project cannot be copied ({error.strerror or error})") from None
    first = [copy, copy / "src", *_moved(ground.project, copy)]
    folders = tuple(dict.fromkeys(str(path) for path in first if path.is_dir()))
    return replace(_with_plan(ground, {"original": str(original)}, folders), root=copy)


def _replaced(edit: Edit, data: bytes) -> bytes:
    """The bytes of the file with the text replaced, and nothing else: not the ends of its lines either."""
    old, new = (text.encode("utf-8", "surrogateescape") for text in (edit.replace, edit.by))
    if b"\r\n" in data:
        old, new = (text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for text in (old, new))
    if edit.path.endswith(".py") and len(_ASSERTS.findall(edit.by)) > len(_ASSERTS.findall(edit.replace)):
        raise Unplantable("it plants an assertion, so that every test fails for it that comes there")
    found = data.count(old) if old else 0
    if found != 1 or old == new:
        raise Unplantable(f"{edit.replace!r} stands {found} times in {edit.path}, and must stand there once")
    return data.replace(old, new)


def _rewrite(changed: Path, data: bytes, copy: Path, edit: Edit) -> None:
    """Write the edited file into the copy. A link may lead out of it, and to the file of the project itself."""
    if not changed.resolve().is_relative_to(copy.resolve()):
        raise Unplantable(
            f"{edit.path} is reached through a link that leads out of a copy; name the file itself"
        )
    changed.parent.mkdir(parents=True, exist_ok=True)
    if changed.exists():
        changed.chmod(changed.stat().st_mode | stat.S_IWUSR)
    changed.write_bytes(data)


def _moved(project: Project, copy: Path) -> list[Path]:
    """Where the interpreter imports from inside of the project, as it is called in the copy."""
    paths = [Path(path) for path in project.about["sys_path"] if path]
    return [copy / path.relative_to(project.root) for path in paths if path.is_relative_to(project.root)]


def copy_project(root: Path, copy: Path) -> None:
    """Copy a project: what git knows of it or would, and everything but caches where there is no git.

    Args:
        root: the project.
        copy: where to; must not be there.
    """
    names = _known_to_git(root)
    if names is None:
        shutil.copytree(root, copy, ignore=_not_copied, symlinks=True)
        return
    for name in names:
        source, target = root / name, copy / name
        if (source.is_symlink() or source.is_file()) and name.partition("/")[0] != "evidence":
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _not_copied(folder: str, names: list[str]) -> set[str]:
    """Of the names of a folder those that are caches, or pipes and sockets, which have no content to copy."""
    kinds = {name: stat.S_IFMT(os.lstat(os.path.join(folder, name)).st_mode) for name in names}
    special = {name for name, kind in kinds.items() if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)}
    return special | shutil.ignore_patterns(*_NOT_COPIED)(folder, names)


def _known_to_git(root: Path) -> list[str] | None:
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def judged(control: Control, answer: Answer) -> Controlled:
    """What a control shows, from the run under its defect.

    Args:
        control: what was planted.
        answer: how the falsifier ended.
    """
    verdict, why = _judgement(control, answer)
    return Controlled(planted=described(control), verdict=verdict, why=why, answer=answer)


def _judgement(control: Control, answer: Answer) -> tuple[Shown, str]:
    unplanted = _unplanted(control, answer)
    if unplanted:
        return Shown.BROKEN, unplanted
    if answer.said is Said.HELD:
        return Shown.MISSED, _survived(control, answer)
    if answer.said is Said.NOTHING:
        return Shown.BROKEN, f"under the defect there is no answer: {answer.why}"
    if _counts_calls(control) and answer.event("reached") is None:
        return Shown.BROKEN, f"it failed, and {control.patch} was never called: {answer.why}"
    if control.sees is not None:
        if re.search(control.sees, answer.says):
            return Shown.CAUGHT, answer.why
        return Shown.BROKEN, f"it failed, and does not say {control.sees!r}: {answer.why}"
    if not answer.asserted:
        first = _first_line(answer.says)
        return (
            Shown.BROKEN,
            f"it broke instead of failing by an assertion ({first}); `sees:` can say otherwise",
        )
    return Shown.CAUGHT, answer.why


def _unplanted(control: Control, answer: Answer) -> str | None:
    """Why the defect was not there, as a clause."""
    original = answer.event("original")
    if original is not None:
        return "the program imported the original and not the copy that was edited"
    if control.patch is None:
        return None
    failed = answer.event("unplanted")
    if failed is not None:
        return f"{control.patch} could not be replaced ({failed.get('says')})"
    if answer.event("planted") is None:
        module = control.patch.partition(":")[0]
        return f"no Python process of the run imported {module}, so nothing was planted"
    return None


def _survived(control: Control, answer: Answer) -> str:
    if _counts_calls(control) and answer.event("reached") is None:
        return f"it survived its control, and never called {control.patch}"
    return "it survived its control"


def _counts_calls(control: Control) -> bool:
    return control.replacement is not None and control.replacement.how in ("returns", "raises")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:160] or "it says nothing"
