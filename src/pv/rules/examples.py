"""Examples of rules: a whole contract that is valid, with a few texts in it replaced.

So that an example shows nothing but its defect, and a test can still run all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

FALSIFIERS = """\
falsification_tests:
  - id: SPLIT-FAL-001
    rule: the sides are disjoint
    prediction: 0 of 1,000 documents are on both sides
    if_fails: the validation loss is measured on text that was trained on
    refutes: [SPLIT-OBL-001]
    runner:
      pytest: tests/test_split.py::test_disjoint
    timeout_s: 60
    needs: []
    subjects: [src/split/*.py]
    control: {patch: "split.side:side", returns: train}
"""

STRICT_BASE = f"""\
metadata:
  version: "1.0.0"
  created: 2026-02-18
  description: The two sides of a split share no document.
  references: [docs/split.md]
  depends_on: []
equations:
  disjoint:
    formula: train & val = {{}}
proof_obligations:
  - id: SPLIT-OBL-001
    type: invariant
    property: no document is on both sides
{FALSIFIERS}bounded_proofs:
  - id: SPLIT-PRF-001
    obligation: SPLIT-OBL-001
    property: every hash of two bytes has one side
    runner: {{exhaustive: "split.proofs:one_side", domain: "split.proofs:hashes", size: 65536}}
    subjects: [src/split/*.py]
"""

FIELD_EQUATIONS = """\
equations:
  softmax:
    formula: s_i = exp(x_i) / sum(exp(x))
    domain: x in R^n
"""

FIELD_PROOFS = """\
kani_harnesses:
  - id: KANI-SM-001
    obligation: SM-INV-001
    bound: 16
"""

FIELD_GATE = """\
qa_gate:
  id: F-SM-001
  name: softmax
"""

FIELD_BASE = f"""\
metadata:
  version: "1.0.0"
  created: 2026-02-18
  author: somebody
  description: Softmax gives a distribution.
  references: [a paper]
{FIELD_EQUATIONS}proof_obligations:
  - type: invariant
    property: the outputs sum to one
    formal: abs(sum(s) - 1) < eps
falsification_tests:
  - id: FALSIFY-SM-001
    rule: sums to one
    prediction: the sum is within 1e-6 of 1
    if_fails: the normalisation is missing
{FIELD_PROOFS}{FIELD_GATE}"""

BEAT_BASE = """\
metadata:
  version: "1.0.0"
  kind: beat-benchmark
  description: We start sooner than the incumbent.
  references: [bench/start.py]
beat:
  pillar: llama.cpp
  incumbent: llama.cpp
  metric: start_ms
  direction: lower_is_better
  baseline_value: 200
  beat_threshold: 150
  approved_compute: CPU
  ci_gate_name: bench-start
"""

KAIZEN_BASE = """\
metadata:
  version: "1.0.0"
  kind: kaizen
  description: Starting gets quicker.
  references: [bench/start.py]
contract: KAIZEN-START-001
title: a quicker start
status: implementing
baseline: {start_ms: 200, memory_mb: 90}
target: {start_ms: 150, memory_mb: 95}
invariants: [the output is the same]
"""

MANIFEST_FILES = """\
files:
  - path: model.apr
    url: https://example.org/model.apr
    sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    size_bytes: 1024
"""

MANIFEST_BASE = f"""\
model_id: org/model
version: "1.0.0"
provenance: {{wasGeneratedBy: {{command: make publish}}}}
{MANIFEST_FILES}"""

MILESTONES_BASE = """\
milestones:
  - id: first-release
    title: The sides are disjoint
    claims: [SPLIT-FAL-001]
"""

PROJECT = (
    ("pyproject.toml", ""),
    ("tests/test_split.py", "def test_disjoint():\n    assert True\n"),
    ("src/split/side.py", "def side(text):\n    return 'train'\n\n\nclass Split:\n    side = side\n"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A base with texts replaced; each old text stands in the base exactly once."""

    base: str = STRICT_BASE
    changes: tuple[tuple[str, str], ...]
    beside: tuple[tuple[str, str], ...] = ()  # (stem, text) of other contracts in the folder
    files: tuple[tuple[str, str], ...] = PROJECT  # (path from the root, text) of the project

    @property
    def text(self) -> str:
        """The whole file."""
        return changed(self.base, self.changes)

    @property
    def shown(self) -> str:
        """The lines that differ from the base, or what was taken out."""
        added = [new for _, new in self.changes if new.strip()]
        gone = [f"# without:\n{old}" for old, new in self.changes if not new.strip()]
        return "\n".join(part.strip("\n") for part in added + gone)


def changed(base: str, changes: tuple[tuple[str, str], ...]) -> str:
    """The base with each old text replaced by its new one."""
    for old, new in changes:
        assert base.count(old) == 1, f"{old!r} stands {base.count(old)} times in the base of an example"
        base = base.replace(old, new)
    return base


def edit(*pairs: str, base: str = STRICT_BASE) -> Example:
    """An example from old and new texts in turn.

    Args:
        pairs: old text, new text, old text, new text ...
        base: a valid file.
    """
    return Example(base=base, changes=tuple(zip(pairs[::2], pairs[1::2], strict=True)))
