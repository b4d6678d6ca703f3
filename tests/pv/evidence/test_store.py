"""Evidence counts only where every byte is as it was recorded, and lies where it was put."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from pv.evidence import store
from pv.evidence.statement import PREDICATE, TYPE, sealed
from pv.evidence.store import record, records_of
from pv.run.reading import read_contracts
from pv_project import Trial, pv

FAST = "{command: [python, -c, \"import os; assert os.environ.get('SIDE') != 'broken'\"]}"
BREAKS = "{env: {SIDE: broken}}"


@pytest.fixture
def recorded(trial: Trial) -> Trial:
    """A project with one claim that has survived."""
    trial.claim("A", FAST, BREAKS)
    done = trial.falsify()
    assert (done.verdict("A"), done.code) == ("survived", 0)
    return trial


def _damage(trial: Trial, claim: str = "A", stem: str = "split-v1") -> list[str]:
    return [damage.what for damage in records_of(trial.root / "evidence", stem, claim).damage]


def test_a_run_is_an_in_toto_statement_with_all_that_it_speaks_about(recorded: Trial) -> None:
    (path,) = recorded.evidence("A")
    document = json.loads(path.read_text())
    assert (document["_type"], document["predicateType"]) == (TYPE, PREDICATE)
    subjects = {(s["annotations"]["role"], s["name"]): s["digest"]["sha256"] for s in document["subject"]}
    source = (recorded.root / "src/split/__init__.py").read_bytes()
    assert subjects["subject", "src/split/__init__.py"] == hashlib.sha256(source).hexdigest()
    assert ("claim", "split-v1/A") in subjects
    ours = document["predicate"]["pv"]
    assert ours["run"]["exit_code"] == 0
    assert ours["run"]["log"]["sha256"] == hashlib.sha256(b"").hexdigest()
    assert [c["verdict"] for c in ours["controls"]] == ["caught"]
    assert ours["environment"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "pytest" in ours["environment"]["packages"]
    assert ours["started"] <= ours["ended"]
    assert document["predicate"]["result"] == "PASSED"


def test_no_path_of_this_machine_is_in_it(recorded: Trial) -> None:
    (path,) = recorded.evidence("A")
    assert str(recorded.root) not in path.read_text()


def test_every_byte_that_is_edited_is_seen(recorded: Trial) -> None:
    (path,) = recorded.evidence("A")
    data = path.read_bytes()
    for position in range(0, len(data), 97):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(changed)
        assert _damage(recorded) == ["it was edited after it was recorded"], position
    path.write_bytes(data)
    assert _damage(recorded) == []


def test_one_that_is_edited_together_with_the_ledger_has_the_wrong_digest_of_its_own(recorded: Trial) -> None:
    (path,) = recorded.evidence("A")
    path.write_text(path.read_text().replace('"exit_code": 0', '"exit_code": 7'))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "LEDGER").write_text(f"{digest}  {path.name}\n")
    assert _damage(recorded) == ["it is no evidence of pv, or its own digest is wrong"]


def test_one_that_is_deleted_is_missed(recorded: Trial) -> None:
    recorded.evidence("A")[0].unlink()
    records = records_of(recorded.root / "evidence", "split-v1", "A")
    assert (records.runs, [d.what for d in records.damage]) == ((), ["it is in the ledger and was deleted"])


def test_one_copied_from_another_claim_does_not_count(recorded: Trial) -> None:
    recorded.claim("B", FAST, BREAKS, stem="other-v1")
    folder = recorded.root / "evidence"
    shutil.copytree(folder / "split-v1/A", folder / "other-v1/B")
    records = records_of(folder, "other-v1", "B")
    assert (records.runs, [d.what for d in records.damage]) == ((), ["it is evidence of split-v1/A"])


def test_one_that_the_ledger_does_not_name_does_not_count(recorded: Trial) -> None:
    (path,) = recorded.evidence("A")
    shutil.copy(path, path.with_name("20990101T000000Z-0000000000000000.json"))
    records = records_of(recorded.root / "evidence", "split-v1", "A")
    (damage,) = records.damage
    assert len(records.runs) == 1
    assert damage.what.startswith("it is not in the ledger")


def test_a_later_run_changes_no_file_of_an_earlier_one(recorded: Trial) -> None:
    (path,) = recorded.evidence("A")
    data = path.read_bytes()
    recorded.falsify()
    assert path.read_bytes() == data
    assert len(recorded.evidence("A")) == 2
    assert _damage(recorded) == []


def test_two_runs_at_once_do_not_clash(recorded: Trial) -> None:
    command = [sys.executable, "-m", "pv", "falsify", str(recorded.root / "contracts")]
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)
    ]
    assert [process.wait() for process in running] == [0, 0, 0]
    records = records_of(recorded.root / "evidence", "split-v1", "A")
    assert (len(records.runs), records.damage) == (4, ())


def test_the_same_run_written_twice_has_two_files(recorded: Trial) -> None:
    store = recorded.root / "evidence"
    document = json.loads(recorded.evidence("A")[0].read_text())
    assert record(store, document) != record(store, document)
    assert len({path.name for path in recorded.evidence("A")}) == 3
    assert sealed(document) == document


def test_the_ledger_is_what_sha256sum_reads(recorded: Trial) -> None:
    folder = recorded.evidence("A")[0].parent
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "LEDGER"], cwd=folder, capture_output=True, check=False
    )
    assert done.returncode == 0


def test_a_clock_that_was_set_back_has_no_say_in_which_run_is_the_last(
    recorded: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pv.run.falsify.time.time", lambda: 86400.0)  # 1970
    monkeypatch.setenv("SIDE", "broken")
    assert recorded.falsify().verdict("A") == "refuted"
    records = records_of(recorded.root / "evidence", "split-v1", "A")
    assert [run.ours["verdict"] for run in records.runs] == ["survived", "refuted"]
    assert records.runs[-1].ours["ended"].startswith("1970")


def test_what_a_run_reports_is_in_its_evidence(trial: Trial) -> None:
    (trial.root / "weights.bin").write_bytes(b"weights")
    code = (
        "import json, os; f = open(os.environ['PV_REPORT'], 'a'); "
        "print(json.dumps({'seed': 7, 'artifact': 'weights.bin'}), file=f); f.close(); "
        "assert os.environ.get('SIDE') != 'broken'"
    )
    trial.claim("A", json.dumps({"command": ["python", "-c", code]}), BREAKS)
    assert trial.falsify().code == 0
    document = json.loads(trial.evidence("A")[0].read_text())
    assert document["predicate"]["pv"]["run"]["facts"] == {"seed": 7}
    (artifact,) = (s for s in document["subject"] if s["annotations"]["role"] == "artifact")
    assert artifact["name"] == "weights.bin"
    assert artifact["digest"]["sha256"] == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", ["falsify", "replay"])
def test_a_run_that_is_interrupted_records_nothing_and_leaves_nothing(
    trial: Trial, name: str, number: int
) -> None:
    trial.claim("A", "{command: [sleep, '61.5']}", BREAKS)
    contracts, bundle = str(trial.root / "contracts"), str(trial.root / "b.tar.gz")
    assert pv("bundle", contracts, "-o", bundle).code == 0
    more = [contracts] if name == "falsify" else [bundle, "--project", str(trial.root)]
    # Under nohup the tests are deaf to SIGHUP, and so would be what they start.
    heard = "import signal, sys; signal.signal(int(sys.argv[1]), signal.SIG_DFL); "
    start = heard + "import os; os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    deaf = number == signal.SIGHUP
    command = [sys.executable, *(["-c", start, str(int(number))] if deaf else []), "-m", "pv", name, *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        sleeper = _wait_for_child(process.pid)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, "PV107" in err) == (2, True)
    assert trial.evidence("A") == []
    assert not sleeper.is_running()


def _wait_for_child(pid: int) -> psutil.Process:
    for _ in range(600):
        found = [child for child in psutil.Process(pid).children(recursive=True) if child.name() == "sleep"]
        if found:
            return found[0]
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the runner did not start")


def test_root_is_found_from_the_folder_of_contracts(recorded: Trial) -> None:
    assert read_contracts(recorded.root / "contracts").root == Path(recorded.root)


@pytest.mark.parametrize("cut", [1, 20])
def test_a_line_that_a_full_disk_cut_short_swallows_no_later_run(recorded: Trial, cut: int) -> None:
    (first,) = recorded.evidence("A")
    ledger = first.parent / "LEDGER"
    ledger.write_bytes(ledger.read_bytes()[:-cut])
    assert recorded.falsify().verdict("A") == "survived"
    records = records_of(recorded.root / "evidence", "split-v1", "A")
    assert {records.runs[-1].path} == {*recorded.evidence("A")} - {first}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("verdict", "maybe"),
        ("ended", 5),
        ("why", ["a"]),
        ("with_controls", "no"),
        ("run", None),
        ("run", {"facts": None}),
    ],
)
def test_a_sealed_file_with_another_kind_of_value_is_damage(
    recorded: Trial, field: str, value: object
) -> None:
    (path,) = recorded.evidence("A")
    document = json.loads(path.read_text())
    document["predicate"]["pv"][field] = value
    data = json.dumps(sealed(document)).encode()
    path.write_bytes(data)
    (path.parent / "LEDGER").write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")
    done = recorded.status()
    assert (done.code, len(done.json["damage"])) == (1, 1), done.stderr


def test_a_pipe_in_place_of_a_run_is_damage(recorded: Trial) -> None:
    (path,) = recorded.evidence("A")
    path.unlink()
    os.mkfifo(path)
    assert len(_damage(recorded)) == 1


def test_a_run_that_is_just_being_recorded_is_no_damage(
    recorded: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = recorded.evidence("A")
    document = json.loads(path.read_text())
    append, begun = store._append, threading.Event()

    def slow(ledger: Path, line: bytes) -> None:
        begun.set()
        time.sleep(0.5)
        append(ledger, line)

    monkeypatch.setattr(store, "_append", slow)
    writer = threading.Thread(target=record, args=(recorded.root / "evidence", document))
    writer.start()
    begun.wait()
    damage = records_of(recorded.root / "evidence", "split-v1", "A").damage
    writer.join()
    assert damage == ()


@pytest.mark.parametrize("claim", [".", "..", "x" * 300, "\u00e9" * 100])
def test_whatever_a_claim_is_called_its_evidence_lies_in_a_folder_of_its_own(
    trial: Trial, claim: str
) -> None:
    trial.claim(f'"{claim}"', FAST, BREAKS)
    assert trial.falsify().verdict(claim) == "survived"
    (ledger,) = (trial.root / "evidence").rglob("LEDGER")
    assert len(ledger.relative_to(trial.root / "evidence").parts) == 3


def test_everything_may_be_watched_without_what_is_recorded(trial: Trial) -> None:
    (trial.root / ".git").mkdir()
    (trial.root / ".git/index").write_text("a")
    trial.claim("A", FAST, BREAKS, subjects='["**/*"]')
    assert trial.falsify().verdict("A") == "survived"
    (trial.root / ".git/index").write_text("b")
    assert trial.status().json["contracts"][0]["survived"] == 1


def test_a_glob_that_is_none_stops_no_run(trial: Trial) -> None:
    trial.claim("A", FAST, BREAKS, subjects='["src/a**"]')
    assert trial.falsify().verdict("A") == "survived"


def test_a_full_disk_is_named_and_keeps_no_half(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.claim("A", FAST, BREAKS)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    done = trial.falsify()
    folder = trial.root / "evidence/split-v1/A"
    assert (done.code, "PV102" in done.stderr, str(folder) in done.stderr) == (2, True, True)
    assert list(folder.iterdir()) == []
