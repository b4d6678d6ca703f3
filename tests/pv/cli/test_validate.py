"""`pv validate`: the closing lines and exit codes of the field, per profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from pv.cli.main import entry
from pv.rules.examples import FIELD_BASE, MANIFEST_BASE, STRICT_BASE, Example

BINDING = "version: 1\ntarget_crate: c\nbindings: [{contract: a.yaml, equation: e, status: implemented}]\n"


def validate(capsys: pytest.CaptureFixture[str], path: Path, profile: str) -> tuple[int, str, str]:
    code = entry(["validate", str(path), "--profile", profile])
    told = capsys.readouterr()
    return code, told.out, told.err


def put(tmp_path: Path, text: str, name: str = "x-v1.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("profile", "text"), [("pv1", FIELD_BASE), ("pv2", FIELD_BASE), ("strict", STRICT_BASE)]
)
def test_a_clean_file_prints_three_lines(capsys, tmp_path: Path, profile: str, text: str) -> None:
    code, out, err = validate(capsys, put(tmp_path, text), profile)
    assert (code, out, err) == (0, "\n0 error(s), 0 warning(s)\nContract is valid.\n", "")


@pytest.mark.parametrize("profile", ["pv1", "pv2"])
def test_warnings_leave_it_valid(capsys, tmp_path: Path, profile: str) -> None:
    text = FIELD_BASE.replace("    bound: 16\n", "")
    code, out, err = validate(capsys, put(tmp_path, text), profile)
    assert (code, err) == (0, "")
    assert out.startswith("[WARN] SCHEMA-012: ")
    assert out.endswith("\n\n0 error(s), 1 warning(s)\nContract is valid.\n")


@pytest.mark.parametrize(
    ("profile", "verdict"),
    [
        ("pv1", "error: Contract has 2 validation error(s)\n"),
        ("pv2", "reject: Contract has 2 validation error(s)\n"),
    ],
)
def test_errors_are_counted_on_both_streams(capsys, tmp_path: Path, profile: str, verdict: str) -> None:
    text = FIELD_BASE.replace("[a paper]", "[]").replace('"1.0.0"', '""')
    code, out, err = validate(capsys, put(tmp_path, text), profile)
    assert (code, err) == (1, verdict)
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["[ERROR] SCHEMA-001", "[ERROR] SCHEMA-002"]
    assert lines[2:] == ["", "2 error(s), 0 warning(s)"]


@pytest.mark.parametrize("profile", ["pv1", "pv2", "strict"])
@pytest.mark.parametrize("text", ["metadata: [\n", "metadata: {version: [1]}\n", ""])
def test_what_does_not_parse_is_a_sentence_on_stderr(capsys, tmp_path: Path, profile: str, text: str) -> None:
    code, out, err = validate(capsys, put(tmp_path, text), profile)
    assert (code, out) == (1, "")
    assert all(line.startswith("error: Failed to parse YAML: ") for line in err.splitlines())
    assert err


@pytest.mark.parametrize(("profile", "code", "begins"), [
    ("pv1", 1, "error: Failed to read contract file: "), ("pv2", 2, "decline: "), ("strict", 2, "decline: "),
])  # fmt: skip
def test_where_nothing_is_there_is_nothing_to_judge(
    capsys, tmp_path: Path, profile: str, code: int, begins: str
) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path / "empty", "metadata: {}", ".hidden.yaml")
    for path in (tmp_path / "absent.yaml", tmp_path / "empty", tmp_path / ("a" * 300)):
        got, out, err = validate(capsys, path, profile)
        assert (got, out) == (code, "")
        assert err.startswith(begins)
        assert err.count("\n") == 1


def test_a_folder_is_every_file_of_it(capsys, tmp_path: Path) -> None:
    put(tmp_path, STRICT_BASE, "a.yaml")
    put(tmp_path, "metadata: [\n", "b.yaml")
    put(tmp_path, MANIFEST_BASE, "c.yml")
    code, out, _ = validate(capsys, tmp_path, "strict")
    assert code == 1
    heads = [line for line in out.splitlines() if line.startswith("== ")]
    assert heads == [f"== {tmp_path / name}" for name in ("a.yaml", "b.yaml", "c.yml")]
    assert out.endswith(f"3 artifact(s) under {tmp_path}, 1 failed\n")


def test_the_first_generation_reads_no_folder(capsys, tmp_path: Path) -> None:
    put(tmp_path, FIELD_BASE)
    assert validate(capsys, tmp_path, "pv1")[0] == 1


@pytest.mark.parametrize(("text", "last"), [
    (BINDING, "Binding registry (kind: binding) is valid."),
    (MANIFEST_BASE, "Publish manifest (kind: publish-manifest) is valid."),
    ("schema: x\n", "External corpus (kind: external) is valid."),
    ("milestones: []\n", "Milestones (kind: milestones) is valid."),
])  # fmt: skip
def test_another_artifact_is_named(capsys, tmp_path: Path, text: str, last: str) -> None:
    code, out, _ = validate(capsys, put(tmp_path, text), "pv2")
    assert (code, out.splitlines()[-1]) == (0, last)


def test_a_binding_of_another_status_does_not_parse(capsys, tmp_path: Path) -> None:
    path = put(tmp_path, BINDING.replace("implemented", "pending"))
    assert validate(capsys, path, "pv2")[0] == 0
    assert validate(capsys, path, "pv1")[0] == 1


def test_a_kind_by_default_is_noted_once(capsys, tmp_path: Path) -> None:
    text = FIELD_BASE.replace("formula: s_i = exp(x_i) / sum(exp(x))", 'formula: ""').replace(
        "qa_gate", "gate"
    )
    lines = validate(capsys, put(tmp_path, text), "pv2")[1].splitlines()
    assert [("kernel by default" in line) for line in lines[:2]] == [True, False]
    told = validate(capsys, put(tmp_path, text.replace("author:", "kind: kernel\n  author:")), "pv2")[1]
    assert "kernel by default" not in told


def test_other_kinds_are_exempt_in_the_field_and_not_here(capsys, tmp_path: Path) -> None:
    head = "metadata: {version: 1, description: x, references: [a], kind: schema, registry: true}\n"
    path = put(tmp_path, head)
    assert validate(capsys, path, "pv2")[0] == 0
    code, out, _ = validate(capsys, path, "strict")
    assert code == 1
    assert "STRICT-024" in out


def test_one_file_is_judged_with_what_it_depends_on_and_no_more(capsys, make_project) -> None:
    other = STRICT_BASE.replace("SPLIT-", "ALSO-")
    beside = (("also-v1", other.replace("depends_on: []", "depends_on: [third-v1]")), ("broken-v1", "metadata: ["),
              ("third-v1", STRICT_BASE.replace("SPLIT-", "THIRD-")))  # fmt: skip
    changes = (
        ("depends_on: []", "depends_on: [also-v1]"),
        ("[SPLIT-OBL-001]", "[SPLIT-OBL-001, THIRD-OBL-001]"),
    )
    path = make_project(Example(changes=changes, beside=beside))
    assert validate(capsys, path, "strict")[0] == 0


def test_a_link_to_nowhere_is_a_finding_of_its_folder(capsys, tmp_path: Path) -> None:
    put(tmp_path, STRICT_BASE)
    (tmp_path / "y.yaml").symlink_to(tmp_path / "absent")
    assert validate(capsys, tmp_path, "strict")[0] == 0  # not a file, so not a contract


@pytest.mark.parametrize(
    "arguments", [["validate"], ["validate", "a", "b"], ["vet"], ["validate", "a", "--profile", "x"]]
)
def test_bad_usage_is_a_sentence(capsys, arguments: list[str]) -> None:
    assert entry(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("pv: PV104: ")
    assert err.count("\n") == 1


def test_what_is_allowed_does_not_make_it_invalid(capsys, tmp_path: Path) -> None:
    text = STRICT_BASE.replace(
        "[docs/split.md]", "[] # pv: allow SCHEMA-001 because nobody has written about it"
    )
    code, out, err = validate(capsys, put(tmp_path, text), "strict")
    assert (code, out, err) == (0, "\n0 error(s), 0 warning(s)\nContract is valid.\n", "")
