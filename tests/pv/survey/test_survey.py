"""Graph, coverage, skeletons, bundles."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import shutil
import tarfile
import time
from pathlib import Path

import pytest

from pv_project import Trial, pv

FAST = "{command: [python, -c, \"import os; assert os.environ.get('SIDE') != 'broken'\"]}"
BREAKS = "{env: {SIDE: broken}}"


def test_the_graph_of_what_depends_on_what(trial: Trial) -> None:
    trial.head("parent-v1", depends_on="split-v1")
    trial.claim("A-1", FAST, BREAKS, stem="parent-v1")
    trial.claim("B-1", FAST, BREAKS)
    done = pv("graph", trial.root / "contracts", "--format", "json")
    assert (done.code, done.json["edges"]) == (0, {"parent-v1": ["split-v1"], "split-v1": []})
    assert 'c0["parent-v1"]' in pv("graph", trial.root / "contracts", "--format", "mermaid").stdout
    assert '"parent-v1" -> "split-v1";' in pv("graph", trial.root / "contracts", "--format", "dot").stdout


def test_a_missing_target_is_an_error(trial: Trial) -> None:
    trial.head(depends_on="gone-v1")
    trial.claim("A-1", FAST, BREAKS)
    done = pv("graph", trial.root / "contracts", "--format", "json")
    assert (done.code, done.json["missing"]) == (1, [["split-v1", "gone-v1"]])


def test_a_circle_is_an_error_and_is_named_once(trial: Trial) -> None:
    for stem, other in (("a-v1", "b-v1"), ("b-v1", "c-v1"), ("c-v1", "a-v1")):
        trial.head(stem, depends_on=other)
        trial.claim(f"{stem.upper()}-1", FAST, BREAKS, stem=stem)
    done = pv("graph", trial.root / "contracts", "--format", "json")
    assert (done.code, done.json["cycles"]) == (1, [["a-v1", "b-v1", "c-v1"]])


@pytest.mark.parametrize(
    ("control", "more", "cover", "code"),
    [
        (BREAKS, {}, "run", 0),
        (None, {}, "uncontrolled", 1),
        (BREAKS, {"pending": "{owner: a, reason: b, needs: [gpu], expires: 2090-01-01}"}, "pending", 1),
        (BREAKS, {"refutes": "[OTHER-OBL]"}, "nothing", 1),
        (BREAKS, {"runner": "null", "test": "cargo test split"}, "words", 1),
    ],
)
def test_what_covers_an_obligation(
    trial: Trial, control: str | None, more: dict[str, str], cover: str, code: int
) -> None:
    trial.claim("A-1", more.pop("runner", FAST), control, **more)
    done = pv("coverage", trial.root / "contracts", "--format", "json")
    (row,) = done.json["obligations"]
    assert (row["cover"], done.code) == (cover, code)


def test_a_skeleton_names_the_tests_that_there_are_and_is_invalid_until_it_is_filled(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trial.root)
    assert pv("scaffold", "split-v1", "--tests", "tests/test_split.py").code == 0
    text = trial.contract().read_text()
    assert text.count("runner:") == 3
    assert "tests/test_split.py::test_side" in text
    assert pv("validate", trial.contract()).code == 1
    assert trial.falsify().code == 2
    filled = text.replace('description: ""', "description: d").replace("references: []", "references: [x]")
    for name in ("property", "rule", "prediction", "if_fails"):
        filled = filled.replace(f'{name}: ""', f"{name}: something is so")
    filled = filled.replace('replace: "", by: ""', 'replace: "n % LIMIT == 0", by: "n % LIMIT == 1"')
    trial.contract().write_text(filled)
    assert pv("validate", trial.contract()).code == 0
    done = trial.falsify()
    verdicts = {row["id"]: row["verdict"] for row in done.json["results"]}
    assert verdicts == {
        "SPLIT-FAL-001": "survived", "SPLIT-FAL-002": "survived", "SPLIT-FAL-003": "could not fail",
    }  # fmt: skip


def test_a_skeleton_replaces_nothing(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trial.root)
    trial.claim("A-1", FAST, BREAKS)
    done = pv("scaffold", "split-v1")
    assert (done.code, "PV501" in done.stderr) == (2, True)


def test_a_skeleton_of_one_test(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trial.root)
    assert pv("scaffold", "split-v1", "--tests", "tests/test_split.py::test_split").code == 0
    assert trial.contract().read_text().count("runner:") == 1
    for gone in ("tests/test_split.py::test_gone", "tests/gone.py"):
        assert "PV502" in pv("scaffold", "other-v1", "--tests", gone).stderr


def test_a_skeleton_needs_tests(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trial.root)
    done = pv("scaffold", "other-v1", "--tests", "src")
    assert (done.code, "PV502" in done.stderr) == (2, True)


@pytest.fixture
def bundled(trial: Trial) -> Path:
    """A bundle of a project with two claims that have survived."""
    trial.claim("A-1", FAST, BREAKS)
    trial.claim("B-1", "{command: [python, -c, \"import sys; sys.path[:0] = ['src']; import split; "
                       "assert split.side(10) == 'val'\"]}")  # fmt: skip
    assert trial.falsify().code == 0
    path = trial.root.parent / "b.tar.gz"
    assert pv("bundle", trial.root / "contracts", "-o", path).code == 0
    return path


def test_a_bundle_holds_contracts_and_evidence_by_digest(bundled: Path) -> None:
    with tarfile.open(bundled) as archive:
        names = archive.getnames()
        manifest = json.loads(archive.extractfile("bundle.json").read())  # type: ignore[union-attr]
    assert "contracts/split-v1.yaml" in names
    assert "evidence/split-v1/A-1/LEDGER" in names
    assert sorted(manifest["files"]) == sorted(set(names) - {"bundle.json"})
    assert [c["state"] for c in manifest["contracts"][0]["claims"]] == ["survived", "survived"]


def test_the_same_contracts_and_evidence_give_the_same_bytes(bundled: Path, trial: Trial) -> None:
    again = bundled.with_name("again.tar.gz")
    pv("bundle", trial.root / "contracts", "-o", again)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(bundled.read_bytes()).digest()
    assert pv("bundle", trial.root / "contracts", "-o", again).code == 2  # nothing is replaced


def test_replay_elsewhere_gives_the_same(bundled: Path, trial: Trial) -> None:
    elsewhere = trial.root.parent / "elsewhere"
    shutil.copytree(trial.root, elsewhere, ignore=shutil.ignore_patterns("contracts", "evidence"))
    done = pv("replay", bundled, "--project", elsewhere, "--format", "json")
    assert [(c["comparison"], c["differing"]) for c in done.json["claims"]] == [("same", []), ("same", [])]
    assert done.code == 0
    assert not (elsewhere / "evidence").exists()


def test_replay_on_other_bytes_says_which_and_what_differs(bundled: Path, trial: Trial) -> None:
    trial.change("src/split/__init__.py", "== 0", "== 1")
    done = pv("replay", bundled, "--project", trial.root, "--format", "json")
    rows = {c["id"]: (c["comparison"], c["differing"]) for c in done.json["claims"]}
    changed = ["subject:src/split/__init__.py"]
    assert rows == {"A-1": ("same", changed), "B-1": ("different", changed)}
    assert done.code == 1


@pytest.mark.parametrize("where", ["contracts/split-v1.yaml", "evidence/split-v1/A-1/LEDGER", "bundle.json"])
def test_a_byte_that_was_changed_is_seen(bundled: Path, where: str) -> None:
    with tarfile.open(bundled) as archive:
        files = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    files[where] = files[where].replace(b"a", b"b", 1)
    _pack(bundled, files)
    done = pv("replay", bundled)
    assert (done.code, "PV503" in done.stderr) == (1, True)


@pytest.mark.parametrize("name", ["../escape", "/etc/escape"])
def test_a_member_that_would_leave_the_archive_is_refused(bundled: Path, name: str) -> None:
    _pack(bundled, {"bundle.json": b"{}", name: b""})
    done = pv("replay", bundled)
    assert (done.code, "PV503" in done.stderr) == (1, True)


def _pack(path: Path, files: dict[str, bytes]) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    path.write_bytes(gzip.compress(plain.getvalue()))


@pytest.mark.parametrize("name", ["../evil", "a/b", "..", "", "two words", "/tmp/evil", "-x"])
def test_a_skeleton_has_a_plain_name(trial: Trial, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(trial.root)
    done = pv("scaffold", "--", name)
    assert (done.code, "PV514" in done.stderr) == (2, True)


def test_a_skeleton_of_tests_of_another_project_is_refused(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_other.py").write_text("def test_a():\n    pass\n")
    monkeypatch.chdir(trial.root)
    done = pv("scaffold", "split-v2", "--tests", tmp_path / "test_other.py")
    assert (done.code, "PV513" in done.stderr) == (2, True)


def test_a_skeleton_of_a_class_and_of_either_name_of_a_file(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial.root / "more").mkdir()
    (trial.root / "more/a_test.py").write_text("class TestA:\n    def test_b(self):\n        pass\n")
    monkeypatch.chdir(trial.root)
    for name, tests in (("one-v1", "more/a_test.py::TestA"), ("two-v1", "more")):
        assert pv("scaffold", name, "--tests", tests).code == 0
        assert "more/a_test.py::TestA::test_b" in trial.contract(name).read_text()


def test_a_bundle_of_one_file_is_replayed(trial: Trial) -> None:
    trial.claim("A-1", FAST, BREAKS)
    assert trial.falsify().code == 0
    bundle = trial.root / "one.tar.gz"
    assert pv("bundle", trial.contract(), "-o", bundle).code == 0
    done = pv("replay", bundle, "--project", trial.root, "--format", "json")
    assert (done.code, done.json["claims"][0]["comparison"]) == (0, "same")


def test_a_bundle_that_cannot_be_written_leaves_no_half(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.claim("A-1", FAST, BREAKS)

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    folder = trial.root / "out"
    folder.mkdir()
    assert pv("bundle", trial.root / "contracts", "-o", folder / "b.tar.gz").code == 2
    assert list(folder.iterdir()) == []


def test_many_ways_through_a_graph_are_walked_once(trial: Trial) -> None:
    for i in range(24):
        for side in "ab":
            trial.head(f"d{i:02}{side}", depends_on=f"d{i - 1:02}a, d{i - 1:02}b" if i else "")
    trial.write()
    start = time.monotonic()
    assert pv("graph", trial.root / "contracts").code == 0
    assert len(trial.status().json["contracts"]) == 48
    assert time.monotonic() - start < 30


def test_a_long_chain_is_no_bug(trial: Trial) -> None:
    for i in range(1100):
        trial.head(f"d{i}", depends_on=f"d{i - 1}" if i else "")
    trial.write()
    assert pv("graph", trial.root / "contracts").code == 0
    assert trial.status().code == 1  # all are invalid, having no claims
