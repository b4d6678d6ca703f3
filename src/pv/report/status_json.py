"""The status of contracts for machines."""

from __future__ import annotations

import json
from typing import Any

from pv.report.words import kind
from pv.status.claim import Claim
from pv.status.compute import ContractStatus, Report
from pv.status.milestones import Milestone


def status_json(report: Report, code: int) -> str:
    """Contracts, claims, milestones, problems.

    Args:
        report: as it was computed.
        code: that the command exits with.
    """
    document = {
        "contracts": [_contract(contract) for contract in report.contracts],
        "milestones": [_milestone(milestone) for milestone in report.milestones],
        "damage": [{"path": str(damage.path), "what": damage.what} for damage in report.damage],
        "problems": list(report.problems),
        "computed": report.now.isoformat(timespec="seconds"),
        "exit_code": code,
    }
    return json.dumps(document, indent=1)


def _contract(contract: ContractStatus) -> dict[str, Any]:
    return {
        "contract": contract.stem,
        "path": contract.path,
        "status": contract.level.name,
        "own_status": contract.own.name,
        "declared": contract.declared.name if contract.declared is not None else None,
        "survived": contract.survived,
        "of": len(contract.claims),
        "why_not_higher": list(contract.why_not_higher),
        "depends_on": list(contract.depends_on),
        "claims": [_claim(claim) for claim in contract.claims],
    }


def _claim(claim: Claim) -> dict[str, Any]:
    return {
        "id": claim.id,
        "kind": kind(claim),
        "state": claim.state.value,
        "grade": claim.grade,
        "why": claim.why,
        "ended": claim.ended.isoformat() if claim.ended is not None else None,
        "refuted_before": claim.refuted_before.isoformat() if claim.refuted_before is not None else None,
        "runs": claim.runs,
    }


def _milestone(milestone: Milestone) -> dict[str, Any]:
    return {
        "id": milestone.id,
        "title": milestone.title,
        "survived": len(milestone.done),
        "of": milestone.total,
        "open": list(milestone.open),
        "unknown": list(milestone.unknown),
    }
