"""Refusals of verification."""

from __future__ import annotations

from dataclasses import dataclass

from apr.base.errors import EXIT_NO_ANSWER, AprError


@dataclass(kw_only=True, eq=False)
class VerificationFailed(AprError):
    """What a run or a certificate says is not what its own bytes, or the inputs at hand, give."""

    id = "APR520"
    text = "{path} does not hold at {check} ({claim}): found {found}, expected {expected}"
    help = "do not rely on it: it was changed or damaged after it was written, or it is of other inputs"
    path: str
    check: str
    claim: str
    found: str
    expected: str


@dataclass(kw_only=True, eq=False)
class NothingToVerify(AprError):
    """The path is neither a run directory nor a certificate."""

    id = "APR521"
    text = "{path} is neither a run directory nor a certificate: {reason}"
    help = "name the --run-dir of an `apr pretrain`, or the certificate.json in it"
    exit_code = EXIT_NO_ANSWER
    path: str
    reason: str
