"""Look for a counterexample inside a bound. Arguments: kind, target, and as JSON what the kind needs."""

import functools
import hashlib
import json
import sys
import traceback

from pv_told import is_assertion, named, said, stand_in_project, tell


def ended(how, **more):
    """Tell how it ended."""
    tell(event="ended", how=how, **more)


def exhaustive(target, bound):
    """Every case of a domain, counted; one that is there twice does not count twice."""
    cases, size = named(bound["domain"])(), bound["size"]
    check, seen, count = named(target), set(), 0
    for case in cases:
        count += 1
        if count > size:
            return ended(
                "odd", says=f"the domain has more cases than the {size:,} that are stated", cases=count
            )
        seen.add(hashlib.blake2b(repr(case).encode(), digest_size=12).digest())
        try:
            value = check(case)
        except BaseException as error:
            traceback.print_exc()
            return counterexample(case, said(error), is_assertion(error), count)
        if value is False:
            return counterexample(case, "it returned False", True, count)
        if value is not None and value is not True:
            return ended(
                "odd", says=f"it must return nothing, true or false, and returned {value!r}", cases=count
            )
    if count != size:
        return ended("odd", says=f"the domain has {count:,} cases, and {size:,} are stated", cases=count)
    if len(seen) != size:
        return ended("odd", says=f"only {len(seen):,} of the {size:,} cases are different", cases=len(seen))
    return ended("exhausted", cases=count)


def counterexample(case, says, asserted, count):
    """Tell a case for which the claim is wrong."""
    shown = repr(case)[:2000]
    ended(
        "raised",
        says=f"{says}\ncounterexample: {shown}",
        asserted=asserted,
        counterexample=shown,
        cases=count,
    )


def sampled(target, bound):
    """Random examples by hypothesis, from a seed; those that the property sets aside do not count."""
    import hypothesis
    from hypothesis.errors import UnsatisfiedAssumption

    prove = named(target)
    if not hasattr(prove, "hypothesis"):
        return ended("odd", says=f"{target} has no @given of hypothesis")
    tried, odd = [0], []
    inner = prove.hypothesis.inner_test

    @functools.wraps(inner)
    def counted(*args, **kwargs):
        try:
            value = inner(*args, **kwargs)
        except UnsatisfiedAssumption:
            raise
        except BaseException:
            tried[0] += 1
            raise
        tried[0] += 1
        if value is False:
            raise AssertionError("it returned False")
        if value is not None and value is not True:
            odd.append(f"it must return nothing, true or false, and returned {value!r}")
            raise TypeError(odd[0])

    prove.hypothesis.inner_test = counted
    settings = hypothesis.settings(
        max_examples=bound["examples"],
        database=None,
        deadline=None,
        derandomize=False,
        print_blob=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        settings(hypothesis.seed(bound["seed"])(prove))()
    except BaseException as error:
        traceback.print_exc()
        if odd or type(error).__name__ == "Unsatisfiable":
            return ended("odd", says=odd[0] if odd else said(error), cases=tried[0])
        found = " ".join(
            next(iter(getattr(error, "__notes__", ())), "").split()
        )  # hypothesis notes the case first
        return ended(
            "raised", says=said(error), asserted=is_assertion(error), counterexample=found, cases=tried[0]
        )
    return ended(
        "sampled" if tried[0] else "odd", cases=tried[0], seed=bound["seed"], says="no example was tried"
    )


PROVERS = {"exhaustive": exhaustive, "hypothesis": sampled}


def main():
    """Carry out one proof."""
    stand_in_project()
    kind, target, bound = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    try:
        PROVERS[kind](target, bound)
    except BaseException as error:
        traceback.print_exc()
        ended("unimportable", says=said(error))


if __name__ == "__main__":
    main()
