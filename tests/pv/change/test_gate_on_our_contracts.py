"""What may not pass and what must, in every contract of ours at once: each case changes all of them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from pv.change.version import next_version
from pv.tree.load import load_tree
from pv.tree.scalars import plain_value
from pv_project import Outcome, pv

CONTRACTS = Path(__file__).parents[3] / "contracts"
Value: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Ours:
    """Our contracts in a project of their own, as they are in its first commit and, made ready, in its last."""

    root: Path
    ready: dict[str, Value]  # by stem: each with a tolerance, a live and a pending test, and a bounded proof

    def change(self, how: Callable[[Value], None], bump: str) -> None:
        for stem, value in self.ready.items():
            changed = deepcopy(value)
            how(changed)
            changed["metadata"]["version"] = next_version(value["metadata"]["version"], bump)
            self.write(stem, json.dumps(changed))

    def write(self, stem: str, text: str) -> None:
        (self.root / "contracts" / f"{stem}.yaml").write_text(text, encoding="utf-8")

    def gate(self, base: str = "HEAD") -> Outcome:
        return pv("gate", self.root / "contracts", "--base", base, "--format", "json")

    def blocked(self, base: str = "HEAD") -> list[str]:
        """What is in the way, but for claims that watch the files of contracts, whatever is said in them."""
        done = self.gate(base)
        assert done.code == (1 if done.json["blocked"] else 0)
        return [said for said in done.json["blocked"] if "is touched (contracts/" not in said]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Ours:
    root = tmp_path_factory.mktemp("ours")
    (root / "contracts").mkdir()
    texts = {path.stem: path.read_text("utf-8") for path in sorted(CONTRACTS.glob("*.yaml"))}
    values = {stem: plain_value(load_tree(text, stem)) for stem, text in texts.items()}
    ours = Ours(root=root, ready={stem: value for stem, value in values.items() if "metadata" in value})
    for stem, text in texts.items():  # milestones too
        ours.write(stem, text)
    _git(root, "init", "-q", "-b", "main")
    _commit(root)
    for stem, value in ours.ready.items():
        _make_ready(stem, value)
        ours.write(stem, json.dumps(value))
    _commit(root)
    return ours


def _git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def _commit(root: Path) -> None:
    _git(root, "add", "-A")
    _git(root, "commit", "-q", "-m", "contracts")


def _make_ready(stem: str, value: Value) -> None:
    value["proof_obligations"][0].setdefault("tolerance", 0.5)
    tests = value["falsification_tests"]
    tests[0]["pending"] = {"owner": "me", "reason": "r", "needs": ["network"], "expires": "2090-01-01"}
    tests[1]["live"] = True
    proof = {
        "id": f"PROOF-{stem.upper()}",
        "obligation": value["proof_obligations"][0]["id"],
        "bound": 4,
        "runner": {"exhaustive": "a:b", "domain": "a:c", "size": 4},
        "subjects": ["src/*.py"],
    }
    value.setdefault("bounded_proofs", []).append(proof)


def _tolerance(value: Value) -> None:
    value["proof_obligations"][0]["tolerance"] *= 2


def _prediction(value: Value) -> None:
    test = next(t for t in value["falsification_tests"] if re.search(r"\d", t["prediction"]))
    test["prediction"] = re.sub(r"\d+", lambda found: str(int(found[0]) + 1), test["prediction"], count=1)


def _test(value: Value) -> None:
    del value["falsification_tests"][2]


def _control(value: Value) -> None:
    test = next(
        t for t in value["falsification_tests"] if len(t["control"]) > 1 and isinstance(t["control"], list)
    )
    test["control"].pop()


def _bound(value: Value) -> None:
    value["bounded_proofs"][-1]["bound"] -= 1


def _live(value: Value) -> None:
    del value["falsification_tests"][1]["live"]


def _pending(value: Value) -> None:
    value["falsification_tests"][0]["pending"]["expires"] = "2090-01-02"


WEAKER = {
    _tolerance: "was weakened (tolerance: ",
    _prediction: "was changed (prediction: ",
    _test: "was removed (test was removed)",
    _control: "was weakened (controls without ",
    _bound: "was weakened (bound: 4 -> 3)",
    _live: "was weakened (live: ",
    _pending: "was weakened (pending until: ",
}


@pytest.mark.parametrize("weaken", WEAKER, ids=lambda weaken: weaken.__name__.strip("_"))
def test_closed_before_a_weaker_claim(ours: Ours, weaken: Callable[[Value], None]) -> None:
    ours.change(weaken, "major")
    stopped = [
        said for said in ours.blocked() if WEAKER[weaken] in said and said.endswith("without a waiver")
    ]
    assert [said.partition("/")[0] for said in stopped] == sorted(ours.ready)


def test_closed_before_a_release_that_needs_less(ours: Ours) -> None:
    text = (CONTRACTS / "milestones.yaml").read_text("utf-8")
    ours.write("milestones", text.replace(", FALSIFY-APR-CONTAINER-LIVE]", "]"))
    stopped = [said for said in ours.blocked() if said.startswith("milestones/")]
    ours.write("milestones", text)
    assert [said.partition(" ")[0] for said in stopped] == ["milestones/files-are-whole"]


def test_open_for_another_format(ours: Ours) -> None:
    for stem in ours.ready:
        text = (CONTRACTS / f"{stem}.yaml").read_text("utf-8")
        ours.write(stem, json.dumps(_reversed(plain_value(load_tree(text, stem))), indent=1))
    assert ours.gate(base="HEAD~1").json["changes"] == []
    assert ours.blocked(base="HEAD~1") == []


def _reversed(value: Any) -> Any:
    """Keys in the opposite order."""
    if isinstance(value, dict):
        return {name: _reversed(value[name]) for name in reversed(value)}
    return [_reversed(item) for item in value] if isinstance(value, list) else value


def test_open_for_comments(ours: Ours) -> None:
    for stem in ours.ready:
        text = (CONTRACTS / f"{stem}.yaml").read_text("utf-8")
        ours.write(stem, "# first\n" + re.sub(r"(?m)^(  - id: \S+)$", r"  # this one\n\1  # here", text))
    assert ours.gate(base="HEAD~1").json["changes"] == []
    assert ours.blocked(base="HEAD~1") == []


def _stronger(value: Value) -> None:
    value["bounded_proofs"][-1]["bound"] += 1


def _one_more(value: Value) -> None:
    test = {name: held for name, held in value["falsification_tests"][2].items() if name != "live"}
    value["falsification_tests"].append(test | {"id": f"{test['id']}-AGAIN"})


@pytest.mark.parametrize(("strengthen", "why"), [(_stronger, "its text"), (_one_more, "it is new")])
def test_a_stronger_claim_has_only_to_be_run(
    ours: Ours, strengthen: Callable[[Value], None], why: str
) -> None:
    ours.change(strengthen, "minor")
    blocked = ours.blocked()
    assert [said.partition("/")[0] for said in blocked] == sorted(ours.ready)
    assert all(f"is touched ({why}) and is never run" in said for said in blocked), blocked
    ours.change(strengthen, "patch")
    assert sum("has the version" in said for said in ours.blocked()) == len(ours.ready)
