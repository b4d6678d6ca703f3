"""`pv lint`: a folder as one corpus, four formats, a baseline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pv.cli.main import entry
from pv.rules.examples import STRICT_BASE, Example

BAD = Example(changes=(("references: [docs/split.md]", "references: []"),))
ALLOWED = Example(
    changes=(("references: [docs/split.md]", "references: [] # pv: allow SCHEMA-001 because ours"),)
)
CLEAN = Example(changes=(("timeout_s: 60", "timeout_s: 61"),))


def lint(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> tuple[int, str]:
    code = entry(["lint", str(path), *options])
    return code, capsys.readouterr().out


def test_a_clean_folder_says_how_much_was_judged(capsys, make_project) -> None:
    code, out = lint(capsys, make_project(CLEAN).parent)
    assert (code, out) == (0, "1 file(s), 0 error(s), 0 warning(s)\n")


def test_a_finding_has_its_place_the_text_and_the_fix(capsys, make_project) -> None:
    path = make_project(BAD)
    code, out = lint(capsys, path.parent)
    lines = out.splitlines()
    assert code == 1
    assert lines[0].startswith(f"{path}:5:15: error SCHEMA-001: ")
    assert lines[1] == "    | []"
    assert lines[2].startswith("    = ")
    assert lines[3] == "1 file(s), 1 error(s), 0 warning(s)"


def test_warnings_do_not_fail(capsys, make_project) -> None:
    path = make_project(Example(changes=(("created: 2026-02-18", "created: 2026-02-18\n  author: x"),)))
    path.write_text(
        path.read_text().replace("if_fails: the", "x: the", 1).replace("x: the", "if_fails: '' #")
    )
    code, out = lint(capsys, path.parent)
    assert (code, out.splitlines()[-1]) == (0, "1 file(s), 0 error(s), 1 warning(s)")


def test_json_has_every_finding_with_all_its_fields(capsys, make_project) -> None:
    path = make_project(BAD)
    code, out = lint(capsys, path.parent, "--format", "json")
    document = json.loads(out)
    assert code == 1
    assert {k: document[k] for k in ("passed", "profile", "files", "errors", "warnings")} == {
        "passed": False, "profile": "strict", "files": 1, "errors": 1, "warnings": 0,
    }  # fmt: skip
    (finding,) = document["findings"]
    assert (finding["rule"], finding["path"], finding["line"], finding["column"]) == (
        "SCHEMA-001",
        str(path),
        5,
        15,
    )
    assert (finding["end_line"], finding["end_column"], finding["text"]) == (5, 17, "[]")
    assert (finding["allowed"], finding["known"]) == (None, False)


def test_sarif_has_the_parts_that_its_schema_asks_for(capsys, make_project) -> None:
    make_project(ALLOWED)
    path = make_project(
        Example(changes=BAD.changes, beside=(("a b-v1", ALLOWED.text.replace("SPLIT-", "A-")),))
    )
    _, out = lint(capsys, path.parent, "--format", "sarif")
    log = json.loads(out)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["SCHEMA-001"]
    assert set(rules[0]) == {
        "id",
        "name",
        "shortDescription",
        "fullDescription",
        "help",
        "defaultConfiguration",
    }
    assert run["originalUriBaseIds"]["ROOT"]["uri"].endswith("/")
    allowed, found = run["results"]
    assert allowed["suppressions"] == [{"kind": "inSource", "justification": "ours"}]
    assert "suppressions" not in found
    assert "baselineState" not in found
    place = found["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "contracts/example-v1.yaml", "uriBaseId": "ROOT"}
    assert place["region"] == {
        "startLine": 5, "startColumn": 15, "endLine": 5, "endColumn": 17, "snippet": {"text": "[]"},
    }  # fmt: skip
    assert allowed["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "contracts/a%20b-v1.yaml"
    assert (found["ruleId"], found["ruleIndex"], found["level"]) == ("SCHEMA-001", 0, "error")
    assert re.fullmatch(r"[0-9a-f]{32}", found["partialFingerprints"]["pvFinding/v1"])


def test_github_escapes_what_would_end_a_property(capsys, make_project) -> None:
    path = make_project(Example(changes=(("id: SPLIT-FAL-001", 'id: "a,b:c%\\nd"'),)))
    code, out = lint(capsys, path.parent, "--format", "github")
    (line,) = out.splitlines()
    assert code == 1
    assert line.startswith(f"::error file={path},line=15,endLine=15,col=9,endColumn=")
    assert ",title=STRICT-003::" in line
    assert "%25" in line
    path.rename(path.with_name("a,b:c.yaml"))
    assert f"file={path.parent}/a%2Cb%3Ac.yaml,line=" in lint(capsys, path.parent, "--format", "github")[1]


def test_a_suppressed_finding_is_counted_as_allowed(capsys, make_project) -> None:
    code, out = lint(capsys, make_project(ALLOWED).parent)
    assert (code, out) == (0, "1 file(s), 0 error(s), 0 warning(s), 1 allowed\n")


def test_what_is_known_does_not_count_wherever_it_moves(capsys, make_project, tmp_path: Path) -> None:
    path, baseline = make_project(BAD), tmp_path / "baseline.json"
    assert lint(capsys, path.parent, "--write-baseline", str(baseline))[0] == 0
    path.write_text("# a line more\n" + BAD.text)
    code, out = lint(capsys, path.parent, "--baseline", str(baseline))
    assert (code, out) == (0, "1 file(s), 0 error(s), 0 warning(s), 1 known\n")


def test_a_second_one_like_it_is_new(capsys, make_project, tmp_path: Path) -> None:
    path, baseline = make_project(BAD), tmp_path / "baseline.json"
    lint(capsys, path.parent, "--write-baseline", str(baseline))
    path.with_name("more-v1.yaml").write_text(BAD.text.replace("SPLIT-", "MORE-"))
    assert lint(capsys, path.parent, "--baseline", str(baseline))[0] == 1


def test_what_a_baseline_has_in_vain_is_a_finding(capsys, make_project, tmp_path: Path) -> None:
    path, baseline = make_project(BAD), tmp_path / "baseline.json"
    lint(capsys, path.parent, "--write-baseline", str(baseline))
    path.write_text(CLEAN.text)
    code, out = lint(capsys, path.parent, "--baseline", str(baseline), "--format", "json")
    document = json.loads(out)
    assert (code, document["warnings"]) == (0, 1)
    assert [(f["rule"], f["path"]) for f in document["findings"]] == [("BASELINE-001", str(baseline))]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"pv_baseline": 2}', '{"pv_baseline": 1, "findings": [{}]}', "7"]
)
def test_another_file_is_no_baseline(capsys, make_project, tmp_path: Path, text: str) -> None:
    path, baseline = make_project(BAD), tmp_path / "baseline.json"
    baseline.write_text(text)
    assert entry(["lint", str(path.parent), "--baseline", str(baseline)]) == 2
    assert capsys.readouterr().err.startswith("pv: PV106: ")


def test_nothing_to_judge_is_no_pass(capsys, tmp_path: Path) -> None:
    assert lint(capsys, tmp_path) == (2, "")
    assert lint(capsys, tmp_path / "absent") == (2, "")
    assert entry(["lint", str(tmp_path), "--baseline", str(tmp_path / "absent")]) == 2


def test_one_file_that_does_not_parse_does_not_hide_the_others(capsys, make_project) -> None:
    path = make_project(BAD)
    path.with_name("a-v1.yaml").write_text("metadata: [\n")
    path.with_name("b-v1.yaml").write_text("metadata: {version: []}\n")
    _, out = lint(capsys, path.parent, "--format", "json")
    assert [f["rule"] for f in json.loads(out)["findings"]] == [
        "PARSE-002",
        "PARSE-001",
        "PARSE-001",
        "SCHEMA-001",
    ]


def test_what_an_unreadable_contract_would_hold_is_not_called_missing(capsys, make_project) -> None:
    path = make_project(Example(changes=(("depends_on: []", "depends_on: [a-v1]"),)))
    path.with_name("a-v1.yaml").write_text("metadata: [\n")
    _, out = lint(capsys, path.parent, "--format", "json")
    assert [f["rule"] for f in json.loads(out)["findings"]] == ["PARSE-002"]


def test_explain_knows_ids_and_names(capsys) -> None:
    assert entry(["explain", "strict-011"]) == 0
    by_id = capsys.readouterr().out
    assert entry(["explain", "control-missing"]) == 0
    assert capsys.readouterr().out == by_id
    assert by_id.startswith("## STRICT-011: control-missing\n")
    assert entry(["explain"]) == 0
    assert "STRICT-011" in capsys.readouterr().out
    assert entry(["explain", "controls-missing"]) == 2
    assert "control-missing" in capsys.readouterr().err
    assert entry(["explain", "pv999"]) == 2
    assert "pv999; " in capsys.readouterr().err


def test_the_strict_base_lints_like_a_project_of_its_own(capsys, make_project) -> None:
    path = make_project(Example(changes=((STRICT_BASE.splitlines()[1], '  version: "2.0.0"'),), files=()))
    (path.parent.parent / ".git").mkdir()
    code, out = lint(capsys, path)
    assert code == 1
    assert {line.split()[2] for line in out.splitlines() if ": error " in line} == {
        "STRICT-025:",
        "STRICT-026:",
    }
