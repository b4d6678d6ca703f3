"""The incumbent names none of the pillars.

Its own baseline cannot be found, so that the comparison is with a number and not with a program. The pillars are
`llama.cpp`, `vllm`, `transformers` and `pytorch`; a longer name that holds one of them will do.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import BEAT_BASE, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if contract.metadata.kind != "beat-benchmark" or contract.beat is None:
        return
    beat = contract.beat

    named = (beat.incumbent or "").lower()
    if not any(pillar in named for pillar in PILLARS):
        says = f"the incumbent {beat.incumbent or 'is not named and'} is none of {', '.join(PILLARS)}"
        yield Offence(beat.where("incumbent"), says, "name one of them")


PILLARS = ("llama.cpp", "vllm", "transformers", "pytorch")


RULE = Rule(
    page=__doc__,
    id="BEAT-002",
    name="incumbent-unknown",
    profiles=SINCE_PV2,
    bad=edit("  incumbent: llama.cpp", "  incumbent: ours", base=BEAT_BASE),
    good=edit("  incumbent: llama.cpp", "  incumbent: Llama.cpp b4000", base=BEAT_BASE),
    check=_check,
)
