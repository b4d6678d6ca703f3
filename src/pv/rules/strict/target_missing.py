"""A runner or a control names something that its module does not have.

It was renamed or moved, so that the test cannot start or the defect cannot be planted. Modules are looked for below the
root of the project, src and tests; a package that is found nowhere there may be installed, and is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.contract.falsifier import FalsificationTest
from pv.contract.located import Located
from pv.contract.proof import Proof
from pv.contract.runner import PythonRunner
from pv.rules.examples import edit
from pv.rules.project_files import target_missing
from pv.rules.rule import STRICT, Around, Offence, Rule
from pv.rules.targets import is_dotted


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for part in contract.runnable:
        for owner, name, target in _targets(part):
            if is_dotted(target) and target_missing(around.corpus.root, target):
                module, _, attribute = target.partition(":")
                yield Offence(owner.where(name), f"{module} has no {attribute}", "correct the name")


def _targets(part: FalsificationTest | Proof) -> Iterator[tuple[Located, str, str]]:
    """What a test or a proof names, with the field that names it."""
    if isinstance(part.runner, PythonRunner):
        yield part.runner, "python", part.runner.target
    if isinstance(part, Proof) and part.runner is not None:
        yield part.runner, part.runner.kind, part.runner.target
        yield part.runner, "domain", part.runner.domain or ""
    for control in part.controls:
        yield control, "patch", control.patch or ""
        if control.replacement is not None and control.replacement.how in ("with", "raises"):
            yield control, control.replacement.how, str(control.replacement.value)


RULE = Rule(
    page=__doc__,
    id="STRICT-034",
    name="target-missing",
    profiles=STRICT,
    reads_project=True,
    bad=edit('patch: "split.side:side"', 'patch: "split.side:sides"'),
    good=edit('patch: "split.side:side"', 'patch: "elsewhere.side:sides"'),
    check=_check,
)
