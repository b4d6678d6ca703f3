"""`falsification_tests:` what would refute the obligations, and how to run it."""

from __future__ import annotations

from dataclasses import dataclass

from pv.contract.control import Control, read_controls
from pv.contract.fields import Fields
from pv.contract.located import Located
from pv.contract.runner import Runner, read_runner
from pv.profile import Profile

LEVELS = ("part", "full")
NEEDS = ("gpu", "network", "model:NAME", "tool:NAME", "minutes:N")
DEFAULT_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending(Located):
    """Why a test cannot run now, who answers for it, and until when."""

    owner: str | None
    reason: str | None
    needs: tuple[str, ...]
    expires: str | None  # YYYY-MM-DD, the last day


@dataclass(frozen=True, slots=True, kw_only=True)
class FalsificationTest(Located):
    """A test that can refute obligations."""

    id: str
    rule: str | None
    prediction: str | None
    test: str | None  # free text: where the field names its test
    test_harness: str | None
    name: str | None
    if_fails: str | None
    obligations: tuple[str, ...]  # the field's newest way to say what it is about
    refutes: tuple[str, ...]  # ids of obligations
    runner: Runner | None
    controls: tuple[Control, ...]
    timeout_s: float
    needs: tuple[str, ...]  # of NEEDS
    subjects: tuple[
        str, ...
    ]  # globs from the project's root: a change in one of these files makes a result stale
    level: str  # "part": of the algorithm; "full": end to end
    live: bool  # on the real artifact; runs only when asked for
    pending: Pending | None


def read_falsifier(f: Fields) -> FalsificationTest:
    """One falsification test, from its fields."""
    is_v1 = f.reading.profile is Profile.PV1
    v2, strict = f.later(Profile.PV2), f.later(Profile.STRICT)
    timeout_s = strict.number("timeout_s")
    return FalsificationTest(
        id=f.text("id"),
        rule=f.text("rule") if is_v1 else f.optional_text("rule", "description"),
        prediction=f.text("prediction") if is_v1 else f.optional_text("prediction", "expected"),
        test=f.optional_text("test") if is_v1 else f.optional_text("test", "command"),
        test_harness=v2.optional_text("test_harness"),
        name=v2.optional_text("name"),
        if_fails=f.text("if_fails") if is_v1 else f.optional_text("if_fails", "fails_if"),
        obligations=v2.one_or_more("obligation"),
        refutes=strict.one_or_more("refutes"),
        runner=strict.child("runner", read_runner),
        controls=read_controls(strict),
        timeout_s=DEFAULT_TIMEOUT_S if timeout_s is None else timeout_s,
        needs=strict.one_or_more("needs"),
        subjects=strict.one_or_more("subjects"),
        level=strict.choice("level", LEVELS, "full") or "full",
        live=strict.flag("live"),
        pending=strict.child("pending", _read_pending),
        **f.located(),
    )


def _read_pending(f: Fields) -> Pending:
    return Pending(
        owner=f.optional_text("owner"),
        reason=f.optional_text("reason"),
        needs=f.one_or_more("needs"),
        expires=f.optional_text("expires"),
        **f.located(),
    )
