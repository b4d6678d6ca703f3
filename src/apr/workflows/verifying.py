"""`apr verify`: re-derive offline what a run directory or a certificate claims, and say what cannot be.

Everything is read again from its bytes and held against something that it did not itself say: digests against what
they are of, metrics against the plan, checkpoints against certificate, plan and metrics, the record against them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from apr.base.errors import FileMissing
from apr.stepzero.verify import (
    Check,
    compared,
    not_rederived,
    resembles_certificate,
    unjudged,
    verify_certificate,
)
from apr.stepzero.verify_errors import NothingToVerify, VerificationFailed
from apr.train.synthetic import WORD
from apr.workflows.verify_documents import Run, Say, assemble, plan_of, read_document
from apr.workflows.verify_models import checkpoint_checks, init_checks
from apr.workflows.verify_record import record_checks
from apr.workflows.verify_shards import dataset_checks
from apr.workflows.verify_synthetic import other_files_check, synthetic_checks

_MAX_BYTES = 1 << 26  # of a certificate, which has some tens of thousands
_DOCUMENTS = ("plan.json", "record.json", "certificate.json")


def verify(
    path: Path,
    *,
    init: Path | None = None,
    dataset: Path | None = None,
    val_shard: Path | None = None,
    on_progress: Say | None = None,
) -> dict[str, Any]:
    """Verify a run directory or a certificate.

    Args:
        path: either.
        init: the checkpoint that the run started from, where it is at hand.
        dataset: the shards that it was trained on, where they are at hand.
        val_shard: those that it was validated on, where they are not the dataset's own.
        on_progress: told what is being done.

    Returns:
        {verdict, checks: [{id, claim, verdict, found, expected}], not_rederived, digest}.

    Raises:
        FileMissing, NothingToVerify: there is nothing that could be verified, or nothing to verify it with.
    """
    say = on_progress or (lambda what, done, total: None)
    checks, document, run = _verify_folder(path, say) if path.is_dir() else _verify_file(path)
    if run is not None:
        checks += _subset_checks(run, init)
    plan = run.plan if run is not None else None
    if document is not None:
        checks += init_checks(document, init, say)
        checks += dataset_checks(
            document, dataset, val_shard, plan, run.tokens_at if run is not None else [0], say
        )
    else:
        checks += _uncompared({"--init": init, "--dataset": dataset, "--val-shard": val_shard})
    return {
        "verdict": "no" if any(check.verdict == "no" for check in checks) else "yes",
        "checks": [check.to_dict() for check in checks],
        "not_rederived": _open_claims(document, run),
        "digest": document["digest"] if document is not None else None,
    }


def _subset_checks(run: Run, init: Path | None) -> list[Check]:
    """What is frozen and merged, where the run or its certificate speaks of it: to verify any other takes no torch."""
    named = {"frozen", "adapters"} & (run.certificate or {}).get("inputs", {}).keys()
    if not (run.plan.freeze or run.plan.lora or named):
        return []
    from apr.workflows.verify_subset import subset_checks

    return list(subset_checks(run, init))


def _resume_checks(run: Run) -> Iterator[Check]:
    """The certificates of resumes: each whole, and of this run's start and plan."""
    start = (run.certificate or {}).get("evidence_digest")
    for path in sorted(run.folder.glob("resumes/*.json")):
        name = f"resumes/{path.stem}"
        found, document = verify_certificate(path.read_bytes())
        yield from (replace(check, id=f"{name}.{check.id}") for check in found)
        if document is not None:
            inputs = document["inputs"]
            claim = "it goes on with this run: its start and its plan"
            said = [inputs.get("start"), inputs.get("plan")]
            yield compared(f"{name}.start", claim, said, [start, run.plan.digest])


def _uncompared(given: Mapping[str, Path | None]) -> Iterator[Check]:
    """What was given to compare with, where there is no certificate that it could be held against."""
    for option, path in given.items():
        if path is None:
            continue
        if not path.exists():
            raise FileMissing(path=str(path), kind=f"path of {option}", made_by="")
        name, claim = option.removeprefix("--"), f"what {option} names is what went in"
        yield unjudged(f"{name}.file", claim, "no certificate", "a certificate that says what went in")


def _open_claims(document: Mapping[str, Any] | None, run: Run | None) -> list[str]:
    told = ["a certificate: there is none to derive anything from"]
    if document is not None:
        told = not_rederived(document)
    if run is not None:
        told += [
            "losses and gradient norms of steps and epochs: they need the training run again",
            "the optimizer's state at earlier checkpoints, which the next one overwrote; and the generator's state",
            "times, and where the plan's values came from: no digest covers them",
        ]
    return told


def _verify_file(path: Path) -> tuple[list[Check], dict[str, Any] | None, None]:
    if not path.is_file():
        raise FileMissing(path=str(path), kind="run directory or certificate", made_by="apr pretrain")
    raw = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else b""
    if not resembles_certificate(raw):
        raise NothingToVerify(path=str(path), reason="the file has no part of a certificate")
    return *verify_certificate(raw), None


# --- reading a run directory --------------------------------------------------------------------


def _verify_folder(folder: Path, say: Say) -> tuple[list[Check], dict[str, Any] | None, Run | None]:
    if not any((folder / name).is_file() for name in _DOCUMENTS):
        raise NothingToVerify(path=str(folder), reason=f"the folder holds none of {', '.join(_DOCUMENTS)}")
    checks, plan_document = read_document(folder, "plan.json")
    more, record = read_document(folder, "record.json")
    checks += more
    document = None
    if (folder / "certificate.json").is_file():
        more, document = verify_certificate((folder / "certificate.json").read_bytes())
        checks += more
    if plan_document is None or record is None:
        return checks, document, None
    plan = plan_of(plan_document)
    again = plan.to_dict() if plan is not None else "a plan of apr pretrain"
    said = {key: value for key, value in plan_document.items() if key != "kind"}
    checks.append(compared("plan.values", "the plan has its values and their digest", said, again))
    if plan is None:
        return checks, document, None
    if plan.synthetic or WORD in (plan_document.get("kind"), record.get("kind")):
        return [*checks, *synthetic_checks(folder, plan, plan_document, record)], document, None
    run = assemble(folder, document, plan, record, checks)
    if run is not None:
        checks += [*record_checks(run), *checkpoint_checks(run, say), *_resume_checks(run)]
    return [*checks, *other_files_check(folder)], document, run


def refusal_of(path: Path, result: dict[str, Any]) -> VerificationFailed | None:
    """The first check that says no, as an error."""
    first = next((check for check in result["checks"] if check["verdict"] == "no"), None)
    if first is None:
        return None
    found, expected = in_words(first["found"]), in_words(first["expected"])
    return VerificationFailed(
        path=str(path), check=first["id"], claim=first["claim"], found=found, expected=expected
    )


def in_words(value: Any) -> str:
    """Spell what a check found or expected."""
    return "nothing" if value is None or value == "" else str(value)


def require_verified(path: Path) -> dict[str, Any]:
    """Verify a run directory or a certificate, and refuse it where a check says no.

    Raises:
        VerificationFailed: naming the first one; and those of `verify`.
    """
    result = verify(path)
    if (failure := refusal_of(path, result)) is not None:
        raise failure
    return result
