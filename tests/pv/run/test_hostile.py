"""Projects and programs that break what runs them: links, pipes, odd reports, a shell that takes assertions away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pv_project import Trial, pv

_EDIT = '{edit: src/split/__init__.py, replace: "n % LIMIT", by: "n % 7"}'
_HEAD = """\
import json, os
import pytest
from split import side


def tell(text):
    with open(os.environ["PV_REPORT"], "a") as file:
        file.write(text + "\\n")


"""
_PYTHON = '{python: "told:told"}'


def _function(trial: Trial, *lines: str) -> None:
    body = "\n".join(f"    {line}" for line in lines)
    (trial.root / "tests/told.py").write_text(f"{_HEAD}def told():\n{body}\n")


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_link_out_of_the_copy_never_lets_a_defect_into_the_project(trial: Trial, is_folder: bool) -> None:
    (trial.root / "lib").mkdir()
    link = trial.root / ("src/split" if is_folder else "src/split/__init__.py")
    real = trial.root / "lib" / link.name
    link.rename(real)
    link.symlink_to(real)  # absolute, so that it leads to the project from a copy too
    source = real / "__init__.py" if is_folder else real
    before = source.read_bytes()
    trial.claim("A", "test_side", _EDIT)
    assert trial.falsify().verdict("A") == "no answer"
    assert source.read_bytes() == before


def test_a_link_inside_of_the_copy_is_edited(trial: Trial) -> None:
    (trial.root / "src/split/__init__.py").rename(trial.root / "src/real.py")
    (trial.root / "src/split/__init__.py").symlink_to("../real.py")
    trial.claim("A", "test_side", _EDIT)
    assert trial.falsify().verdict("A") == "survived"


def test_a_pipe_in_the_project_is_not_copied(trial: Trial) -> None:
    os.mkfifo(trial.root / "pipe")
    trial.claim("A", "test_side", _EDIT)
    assert trial.falsify().verdict("A") == "survived"


def test_an_edit_leaves_the_ends_of_lines(trial: Trial) -> None:
    (trial.root / "data.txt").write_bytes(b"one\r\ntwo\r\n")
    _function(trial, "assert open('data.txt', 'rb').read().endswith(b'\\r\\n')")
    control = '{edit: data.txt, replace: "one\\ntwo", by: "uno\\ndue"}'
    trial.claim("A", _PYTHON, control)
    assert trial.falsify().verdict("A") == "could not fail"


def test_a_file_that_may_not_be_written_is_edited_in_the_copy(trial: Trial) -> None:
    (trial.root / "src/split/__init__.py").chmod(0o444)
    trial.claim("A", "test_side", _EDIT)
    assert trial.falsify().verdict("A") == "survived"


@pytest.mark.parametrize(
    "control",
    [
        '{patch: "split:side", raises: "builtins:AssertionError"}',
        '{patch: "split:side", raises: "pytest:fail.Exception"}',
        '{edit: src/split/__init__.py, replace: "    return \\"val\\"", by: "    assert 0\\n    return \\"val\\""}',
    ],
)
def test_an_assertion_that_is_planted_is_not_that_of_the_test(trial: Trial, control: str) -> None:
    trial.claim("A", "test_asserts_nothing", control)
    assert trial.falsify().verdict("A") == "no answer"


@pytest.mark.parametrize(
    "lines",
    [
        ("if side(10) != 'val':", "    pytest.fail('wrong')"),
        ("with pytest.raises(ValueError):", "    if side(10) == 'val':", "        raise ValueError"),
    ],
)
def test_pytest_fail_and_raises_are_assertions(trial: Trial, lines: tuple[str, ...]) -> None:
    _function(trial, *lines)
    text = (trial.root / "tests/told.py").read_text().replace("def told", "def test_told")
    (trial.root / "tests/test_told.py").write_text(text)
    trial.claim("A", _PYTHON)
    trial.claim("B", '{pytest: "tests/test_told.py"}')
    done = trial.falsify()
    assert (done.verdict("A"), done.verdict("B")) == ("survived", "survived")


def test_a_function_that_skips_itself_is_not_refuted(trial: Trial) -> None:
    _function(trial, "pytest.skip('not here')")
    trial.claim("A", _PYTHON)
    assert trial.falsify().verdict("A") == "no answer"


def test_a_process_that_ends_badly_after_its_function_returned_is_no_answer(trial: Trial) -> None:
    _function(trial, "import atexit", "atexit.register(lambda: os._exit(7))")
    trial.claim("A", _PYTHON)
    assert trial.falsify("--no-controls").verdict("A") == "no answer"


@pytest.mark.parametrize("name", ["PYTHONOPTIMIZE", "PYTHONSAFEPATH"])
def test_the_shell_takes_no_assertion_away(trial: Trial, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    _function(trial, "assert side(10) == 'train'")
    trial.claim("A", _PYTHON)
    assert trial.falsify("--no-controls").verdict("A") == "refuted"


@pytest.mark.parametrize(
    "text",
    [
        '{"loss": NaN}',
        '{"loss": 1e400}',
        "[" * 100_000,
        '{"name": "\\ud800"}',
        json.dumps({"artifact": "x" * 5000}),
        json.dumps({"artifact": "a\0b"}),
    ],
)
def test_whatever_is_told_the_run_is_recorded_and_counts(trial: Trial, text: str) -> None:
    _function(trial, f"tell({text!r})", "assert side(10) == 'val'")
    trial.claim("A", _PYTHON)
    assert trial.falsify().verdict("A") == "survived"
    done = trial.status()
    assert (done.code, done.json["contracts"][0]["status"]) == (0, "FUNCTIONAL"), done.stdout


def test_a_line_of_a_test_that_looks_like_ours_is_none(trial: Trial) -> None:
    _function(trial, 'tell(\'{"event": "selected", "count": "many"}\')', "assert side(10) == 'val'")
    text = (trial.root / "tests/told.py").read_text().replace("def told", "def test_told")
    (trial.root / "tests/test_told.py").write_text(text)
    trial.claim("A", '{pytest: "tests/test_told.py::test_told"}')
    assert trial.falsify().verdict("A") == "survived"


def test_half_a_character_in_a_failure_is_no_damage(trial: Trial) -> None:
    _function(trial, "raise AssertionError('\\ud800')")
    trial.claim("A", _PYTHON)
    assert trial.falsify().verdict("A") == "refuted"
    assert trial.status().json["damage"] == []


def test_a_failure_cannot_draw_over_the_verdict(trial: Trial) -> None:
    _function(trial, r"raise AssertionError('x\r\x1b[2K  survived        A')")
    trial.claim("A", _PYTHON)
    for done in (
        pv("falsify", trial.root / "contracts"),
        pv("status", trial.root / "contracts"),
        pv("status", trial.root / "contracts", "--format", "md"),
    ):
        assert not {"\r", "\x1b"} & set(done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("figure", "limit"), [("1" + "0" * 400, "1"), ("1", ".inf"), ("1", ".nan"), ("1", "1e400")]
)
def test_what_no_float_holds_is_no_figure_and_no_limit(trial: Trial, figure: str, limit: str) -> None:
    code = f"print('{{\\\"x\\\": {figure}}}')"
    runner = f'{{command: [python, -c, {json.dumps(code)}], figure: {{json: x, op: "!=", value: {limit}, unit: s}}}}'
    trial.claim("A", runner)
    done = trial.falsify("--no-controls")
    assert (done.verdict("A"), done.code) == ("no answer", 2)


def test_a_word_of_a_command_may_be_too_long_for_a_path(trial: Trial) -> None:
    trial.claim("A", f'{{command: [python, -c, "{"pass;" * 200}"]}}')
    assert trial.falsify("--no-controls").verdict("A") == "survived"


@pytest.mark.parametrize("how", ["options", "conftest"])
def test_a_test_that_the_project_leaves_out_is_not_passed_over(trial: Trial, how: str) -> None:
    path = trial.root / "tests/test_split.py"
    path.write_text(path.read_text() + "\n\ndef test_bad():\n    assert side(10) == 'train'\n")
    if how == "options":
        (trial.root / "pyproject.toml").write_text(
            "[tool.pytest.ini_options]\npythonpath = ['src']\naddopts = \"-k 'not test_bad'\"\n"
        )
    else:
        (trial.root / "tests/conftest.py").write_text(
            "def pytest_collection_modifyitems(config, items):\n"
            "    out = [item for item in items if item.name == 'test_bad']\n"
            "    config.hook.pytest_deselected(items=out)\n"
            "    items[:] = [item for item in items if item not in out]\n"
        )
    trial.claim("A", '{pytest: "tests/test_split.py"}')
    assert trial.falsify().verdict("A") == "no answer"


def test_what_left_the_group_of_its_process_is_ended_too(trial: Trial) -> None:
    _function(
        trial,
        "import subprocess",
        "child = subprocess.Popen(['sleep', '47.5'], start_new_session=True)",
        "tell(json.dumps({'child': child.pid}))",
        "assert side(10) == 'val'",
    )
    trial.claim("A", _PYTHON)
    assert trial.falsify("--no-controls").verdict("A") == "survived"
    (document,) = (json.loads(path.read_text()) for path in trial.evidence("A"))
    _gone(document["predicate"]["pv"]["run"]["facts"]["child"])


def _gone(pid: int) -> None:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("it is still there")


@pytest.mark.parametrize(
    ("returns", "falsified"), [("False", "refuted"), ("1", "no answer"), ("None", None), ("True", None)]
)
@pytest.mark.parametrize("kind", ["exhaustive", "hypothesis"])
def test_what_a_proof_returns_is_judged(trial: Trial, kind: str, returns: str, falsified: str | None) -> None:
    (trial.root / "tests/told.py").write_text(
        "from hypothesis import given, strategies\n"
        f"def case(x):\n    return {returns}\n"
        "sampled = given(strategies.integers())(case)\n"
        "def domain():\n    return [1, 2, 3]\n"
    )
    runner = {
        "exhaustive": '{exhaustive: "told:case", domain: "told:domain", size: 3}',
        "hypothesis": '{hypothesis: "told:sampled", examples: 5}',
    }[kind]
    trial.proof("P", runner)
    assert trial.prove().verdict("P") == (falsified or "survived")


def test_a_project_without_a_mark_begins_beside_its_contracts(trial: Trial) -> None:
    (trial.root / "pyproject.toml").unlink()
    (trial.root / "conftest.py").write_text("import sys\nsys.path.insert(0, 'src')\n")
    trial.claim("A", "test_side")
    assert trial.falsify().verdict("A") == "survived"
    assert trial.evidence("A")


def test_pv_runs_where_the_shell_closed_its_talk(trial: Trial) -> None:
    trial.claim("A", "test_side")
    command = f"exec {sys.executable} -m pv falsify contracts --no-controls 2>&-"
    done = subprocess.run(["sh", "-c", command], cwd=trial.root, stdout=subprocess.PIPE, timeout=120)
    assert done.returncode == 0
