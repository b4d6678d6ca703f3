"""Loggers: they see every step once, and whatever they do the run is the same and says so."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from apr.base.errors import BadOption, ExtraMissing
from apr.train import log_reporter, loggers
from apr.train.log_relay import Relay
from apr.train.loggers import LoggedRun, checked_loggers
from apr.train.plan import resolve
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent, StepFigures
from apr.train.spec import RunSpec
from killing import Killed, dies, noes
from tiny import read_json

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK: dict[str, Any] = {
    "num_steps": 7, "batch_size": 2, "seq_length": 32, "steps_per_epoch": 3,
    "val_tokens": 256, "device": "cpu", "dtype": "fp32", "lr": 1e-3, "warmup_steps": 2,
}  # fmt: skip


class Listed:
    """A backend that keeps lines, or does what a bad one does."""

    def __init__(self, *, last_step: int = 0, fails_at: int = -1, close_error: str = "") -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.last_step, self.fails_at, self.close_error = last_step, fails_at, close_error
        self.is_closed = False

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        if step == self.fails_at:
            raise OSError("no route to host")
        self.lines.append((step, dict(figures)))

    def close(self) -> None:
        self.is_closed = True
        if self.close_error:
            raise OSError(self.close_error)


class Hearing(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def raising(error: BaseException) -> Callable[[], Any]:
    def opener() -> Any:
        raise error

    return opener


# --- the relay -------------------------------------------------------------------------------------


def test_lines_arrive_in_order_and_what_is_null_is_left_out() -> None:
    backend = Listed()
    relay = Relay("fake", lambda: backend)
    relay.send(1, {"train_loss": 2.0, "gpu_util_pct": None, "tokens_seen": 64})
    relay.send(2, {"train_loss": 1.0, "grad_norm": 0.0})
    relay.close()
    assert backend.lines == [
        (1, {"train_loss": 2.0, "tokens_seen": 64.0}),
        (2, {"train_loss": 1.0, "grad_norm": 0.0}),  # a measured 0 stays
    ]
    assert backend.is_closed
    assert relay.to_record() == {"name": "fake", "brought": 0, "lines": 2, "lost": 0, "error": None}
    assert relay.news() == []


@pytest.mark.parametrize("error", [ImportError("no module"), OSError("refused"), SystemExit(1)])
def test_one_that_does_not_start_loses_everything_and_says_so_once(error: BaseException) -> None:
    relay = Relay("fake", raising(error))
    for step in range(1, 4):
        relay.send(step, {"train_loss": 1.0})
    relay.close()
    (told,) = relay.news()
    assert type(error).__name__ in told
    record = relay.to_record()
    assert (record["lines"], record["lost"]) == (3, 3)
    assert "did not start" in record["error"]
    assert relay.news() == []


def test_one_that_fails_in_the_middle_loses_that_line_alone() -> None:
    backend = Listed(fails_at=2)
    relay = Relay("fake", lambda: backend)
    for step in (1, 2, 3, 2, 4):
        relay.send(step, {"train_loss": 1.0})
    relay.close()
    assert [step for step, _ in backend.lines] == [1, 3, 4]
    assert (relay.to_record()["lines"], relay.to_record()["lost"]) == (5, 2)
    assert len(relay.news()) == 1  # told once, counted twice


def test_one_that_ends_badly_is_told() -> None:
    relay = Relay("fake", lambda: Listed(close_error="upload failed"))
    relay.send(1, {"train_loss": 1.0})
    relay.close()
    assert "upload failed" in relay.news()[0]
    assert (relay.to_record()["lost"], bool(relay.to_record()["error"])) == (0, True)


@pytest.mark.parametrize("where", ["start", "line"])
def test_one_that_hangs_stops_nothing_and_what_it_does_not_take_is_counted(where: str) -> None:
    let_go = threading.Event()

    class Hanging(Listed):
        def log(self, step: int, figures: Mapping[str, float]) -> None:
            let_go.wait()

    def opener() -> Any:
        if where == "start":
            let_go.wait()
        return Hanging()

    relay = Relay("fake", opener, capacity=8)
    start = time.monotonic()
    for step in range(1, 101):
        relay.send(step, {"train_loss": 1.0})
    assert time.monotonic() - start < 1.0
    relay.close(0.2)
    assert time.monotonic() - start < 2.0
    assert (relay.to_record()["lines"], relay.to_record()["lost"]) == (100, 100)
    assert [("behind" in told, "did not end" in told) for told in relay.news()] == [
        (True, False),
        (False, True),
    ]
    let_go.set()


# --- which ----------------------------------------------------------------------------------------


def spec_of(*names: str, **changes: Any) -> RunSpec:
    return RunSpec(run_dir=Path("r"), dataset=Path("d"), log=names or None, **changes)


@pytest.mark.parametrize("names", [("nothing",), ("tensorboard", "none"), ("tensorboard", ""), ("",)])
def test_an_unknown_name_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(BadOption) as caught:
        checked_loggers(spec_of(*names))
    assert caught.value.option == "--log"


def test_none_is_none_and_twice_is_once() -> None:
    assert checked_loggers(spec_of()) == checked_loggers(spec_of("none")) == ()
    assert checked_loggers(spec_of("tensorboard", "tensorboard")) == ("tensorboard",)


@pytest.mark.parametrize("name", loggers.LOGGERS)
def test_a_missing_package_is_refused_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, loggers._MODULES[name], None)
    with pytest.raises(ExtraMissing) as caught:
        checked_loggers(spec_of(name))
    assert (caught.value.package, caught.value.extra) == (name, name)


def test_a_package_that_is_broken_is_refused_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text("raise RuntimeError('protobuf of another age')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(ExtraMissing) as caught:
        checked_loggers(spec_of("wandb"))
    assert "another age" in caught.value.advice


def test_a_synthetic_run_has_nothing_to_log() -> None:
    with pytest.raises(BadOption):
        checked_loggers(spec_of("tensorboard", synthetic=True))


def test_a_logger_is_no_part_of_the_plan() -> None:
    assert resolve(spec_of("tensorboard")).digest == resolve(spec_of()).digest


# --- whole runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec(tiny_apr: Path, tiny_shards: Path) -> Callable[..., RunSpec]:
    def make(run_dir: Path, *names: str, **changes: Any) -> RunSpec:
        given = {"init": tiny_apr, "dataset": tiny_shards, "run_dir": run_dir, **QUICK, **changes}
        return RunSpec(**given, log=names or None)

    return make


@pytest.fixture(scope="module")
def plain(one_thread: None, spec: Callable[..., RunSpec], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    pretrain(spec(folder), Silent())
    return folder


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Openers by name, in the place of the real ones."""
    openers: dict[str, Any] = {}
    monkeypatch.setattr(loggers, "require_importable", lambda name, source: None)
    monkeypatch.setattr(log_reporter, "open_logger", lambda name, run: openers[name](run))
    return openers


def lines_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def weights(run_dir: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(run_dir.glob("ckpt/*.apr"))]


def test_a_logger_gets_what_metrics_and_validations_say(
    spec: Callable[..., RunSpec], plain: Path, tmp_path: Path, backends: dict[str, Any]
) -> None:
    backend, told = Listed(), []
    backends["wandb"] = lambda run: told.append(run) or backend
    record = pretrain(spec(tmp_path / "run", "wandb"), Silent())
    steps = [(step, figures) for step, figures in backend.lines if "train_loss" in figures]
    names = ("train_loss", "grad_norm", "lr", "tokens_per_sec", "tokens_seen")
    wanted = [(line["step"], {name: line[name] for name in names}) for line in lines_of(tmp_path / "run")]
    assert steps == wanted
    validated = [(step, figures["val_loss"]) for step, figures in backend.lines if "val_loss" in figures]
    found = [read_json(path) for path in sorted((tmp_path / "run/ckpt").glob("*.json"))]
    assert validated == [(said["step"], said["val_loss"]) for said in found]
    assert record["loggers"] == [
        {"name": "wandb", "brought": 0, "lines": 10, "lost": 0, "error": None, "after_step": 0}
    ]
    assert (told[0].name, told[0].after_step, told[0].settings["num_steps"]) == ("run", 0, 7)
    assert weights(tmp_path / "run") == weights(plain)
    assert noes(tmp_path / "run") == []


@pytest.mark.parametrize(
    ("opener", "lost"),
    [
        (lambda run: raising(OSError("refused"))(), 10),
        (lambda run: Listed(fails_at=3), 2),  # a step and its validation
        (lambda run: time.sleep(3600), 10),
    ],
)
def test_a_logger_that_fails_changes_nothing_and_is_reported_everywhere(
    spec: Callable[..., RunSpec],
    plain: Path,
    tmp_path: Path,
    backends: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    opener: Any,
    lost: int,
) -> None:
    monkeypatch.setattr(log_reporter.Loggers.close, "__defaults__", (0.5,))
    backends["trackio"], hearing = opener, Hearing()
    record = pretrain(spec(tmp_path / "run", "trackio"), hearing)
    assert record["outcome"] == "BUDGET_DONE"
    (said,) = record["loggers"]
    assert (said["lines"], said["lost"]) == (10, lost)
    assert said["error"]
    (told,) = [note for note in hearing.notes if note.startswith("logger trackio")]
    assert (tmp_path / "run/log.txt").read_text().splitlines().count(told) == 1
    assert weights(tmp_path / "run") == weights(plain)
    assert noes(tmp_path / "run") == []


class KillAt(Silent):
    def __init__(self, step: int) -> None:
        self._step = step

    def step(self, figures: StepFigures) -> None:
        if figures.step == self._step:
            raise Killed


@pytest.mark.parametrize("there", [0, 1, 3])
def test_a_resumed_run_brings_what_the_backend_lacks(
    spec: Callable[..., RunSpec], plain: Path, tmp_path: Path, backends: dict[str, Any], there: int
) -> None:
    """Killed after step 5, it goes on after step 3: the backend then has every step once, whatever it had."""
    run_dir, seen = tmp_path / "run", []
    backends["wandb"] = lambda run: seen.append(run) or Listed()
    with dies():
        pretrain(spec(run_dir, "wandb", save="blocking"), KillAt(5))
    backend = Listed(last_step=there)
    backends["wandb"] = lambda run: seen.append(run) or backend
    record = pretrain(RunSpec(run_dir=run_dir, resume=True), Silent())  # it remembers its logger
    steps = [step for step, figures in backend.lines if "train_loss" in figures]
    assert steps == list(range(there + 1, 8))
    assert [step for step, figures in backend.lines if "val_loss" in figures] == [
        step for step in (3, 6, 7) if step > there
    ]
    values = {step: figures["train_loss"] for step, figures in backend.lines if "train_loss" in figures}
    assert all(line["train_loss"] == values.get(line["step"], line["train_loss"]) for line in lines_of(plain))
    (first, second) = seen
    assert (first.id, second.after_step) == (second.id, 3)
    (said,) = record["loggers"]
    assert (said["after_step"], said["brought"], said["lines"], said["lost"]) == (
        *(3, 3 - there + (there < 3), 6, 0),
    )
    assert noes(run_dir) == []


def test_a_resume_may_name_others_or_none(
    spec: Callable[..., RunSpec], tmp_path: Path, backends: dict[str, Any]
) -> None:
    run_dir = tmp_path / "run"
    backends["wandb"] = lambda run: Listed()
    with dies():
        pretrain(spec(run_dir, "wandb", save="blocking"), KillAt(5))
    id = read_json(run_dir / "loggers.json")["id"]
    with dies():
        pretrain(RunSpec(run_dir=run_dir, resume=True, log=("none",)), KillAt(5))
    assert read_json(run_dir / "loggers.json") == {"format": "apr-loggers-1", "id": id, "names": ["none"]}
    assert pretrain(RunSpec(run_dir=run_dir, resume=True), Silent())["loggers"] == []


def test_stdout_is_for_the_result(
    spec: Callable[..., RunSpec], tmp_path: Path, backends: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    class Printing(Listed):
        def close(self) -> None:
            print("* Run finished.")

    backends["trackio"] = lambda run: Printing()
    pretrain(spec(tmp_path / "run", "trackio"), Silent())
    captured = capsys.readouterr()
    assert (captured.out, "Run finished" in captured.err) == ("", True)


def test_an_edited_count_of_lines_is_found(
    spec: Callable[..., RunSpec], tmp_path: Path, backends: dict[str, Any]
) -> None:
    from apr.base.files import write_json

    backends["wandb"] = lambda run: Listed(fails_at=2)
    pretrain(spec(tmp_path / "run", "wandb"), Silent())
    path = tmp_path / "run/record.json"
    for changes in ({"lines": 6}, {"lines": 40}, {"lost": -1}, {"lost": None}, {"after_step": 4}):
        record = read_json(path)
        write_json(path, {**record, "loggers": [{**record["loggers"][0], **changes}]})
        assert noes(tmp_path / "run") == ["loggers.wandb"], changes
        write_json(path, record)


# --- the real ones --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_every_step_once_after_a_kill(spec: Callable[..., RunSpec], tmp_path: Path) -> None:
    """The real library, and what its own reader shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_dir = tmp_path / "run"
    with dies():
        pretrain(spec(run_dir, "tensorboard", save="blocking"), KillAt(5))
    time.sleep(1.1)  # event files are named by the second, and read in that order
    pretrain(RunSpec(run_dir=run_dir, resume=True), Silent())
    shown = EventAccumulator(str(run_dir / "tensorboard"))
    shown.Reload()
    scalars = {name: shown.Scalars(name) for name in shown.Tags()["scalars"]}
    assert sorted(scalars) == sorted(
        ["train_loss", "grad_norm", "lr", "tokens_per_sec", "tokens_seen", "val_loss", "val_standard_error"]
    )
    assert [event.step for event in scalars["train_loss"]] == list(range(1, 8))
    assert [event.step for event in scalars["val_loss"]] == [3, 6, 7]
    losses = [line["train_loss"] for line in lines_of(run_dir)]
    assert [event.value for event in scalars["train_loss"]] == pytest.approx(losses, rel=1e-6)
    assert noes(run_dir) == []


class FakeRun:
    """What trackio's and wandb's runs have in common, and a store that outlives them."""

    store: dict[str, list[tuple[int, dict[str, float]]]] = {}

    def __init__(self, given: dict[str, Any], key: str) -> None:
        self.given, self._key, self.offline = given, given[key], False
        self.store.setdefault(self._key, [])

    @property
    def step(self) -> int:
        return 1 + max((step for step, _ in self.store[self._key]), default=-1)

    def log(self, figures: dict[str, float], step: int) -> None:
        self.store[self._key].append((step, figures))

    def finish(self) -> None:
        pass


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """Modules in the place of trackio and wandb; the real ones were tried by hand, see LOG.md."""
    made: list[FakeRun] = []
    monkeypatch.setattr(FakeRun, "store", {})

    def init(key: str) -> Callable[..., FakeRun]:
        return lambda **given: made.append(FakeRun(given, key)) or made[-1]

    class Storage:
        @staticmethod
        def get_max_step_for_run(project: str, run: str) -> int | None:
            return max((step for step, _ in FakeRun.store[run]), default=None)

    modules = {name: ModuleType(name) for name in ("trackio", "trackio.sqlite_storage", "wandb")}
    vars(modules["trackio"]).update(init=init("name"), __path__=[])
    vars(modules["trackio.sqlite_storage"]).update(SQLiteStorage=Storage)
    vars(modules["wandb"]).update(init=init("id"), Settings=lambda **given: given)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_an_adapter_goes_on_where_the_store_ends(
    name: str, fakes: list[FakeRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    first = loggers.open_logger(name, logged(tmp_path, after=0))
    for step in (1, 2, 3, 4, 5):
        first.log(step, {"train_loss": float(step)})
    second = loggers.open_logger(name, logged(tmp_path, after=3))
    assert second.last_step == 3
    second.log(6, {"train_loss": 6.0})
    second.close()
    third = loggers.open_logger(name, logged(tmp_path, after=9))
    assert third.last_step == 6  # 7 to 9 are then brought
    assert [run.given["resume"] for run in fakes] == ["allow"] * 3
    assert [run.given["project"] for run in fakes] == ["apr"] * 3
    assert len(FakeRun.store) == 1
    if name == "trackio":  # wandb drops them itself
        second.log(4, {"train_loss": 4.0})
        assert [step for step, _ in next(iter(FakeRun.store.values()))] == [1, 2, 3, 4, 5, 6]


def logged(folder: Path, after: int) -> LoggedRun:
    return LoggedRun(folder=folder, id="1a2b", after_step=after, settings={"lr": 0.1})
