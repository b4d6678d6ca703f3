"""What the scripts of this folder share: tell pv an event, find a target, judge an exception. Standard library only."""

import importlib
import json
import os
import sys


def tell(**event):
    """Append one event to the report of this run."""
    line = json.dumps(event, default=repr) + "\n"
    handle = os.open(os.environ["PV_REPORT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def stand_in_project():
    """Import from the project's root, its src and at last its tests, and not from the folder of this script."""
    root = os.getcwd()
    source, tests = os.path.join(root, "src"), os.path.join(root, "tests")
    sys.path[:1] = [root, source] if os.path.isdir(source) else [root]
    sys.path.extend([tests] if os.path.isdir(tests) else [])


def named(target):
    """What "package.module:Class.name" names."""
    module, _, path = target.partition(":")
    found = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def is_assertion(error):
    """Whether somebody asserted, rather than something broke: also pytest.fail, and a group that holds one."""
    if isinstance(error, AssertionError):
        return True
    if is_outcome(error, "Failed"):
        return True
    return any(
        is_assertion(one) for one in getattr(error, "exceptions", ()) if isinstance(one, BaseException)
    )


def is_skip(error):
    """Whether a test said that it does not want to run."""
    is_unittest = any(
        kind.__name__ == "SkipTest" and kind.__module__ == "unittest.case" for kind in type(error).__mro__
    )
    return is_unittest or is_outcome(error, "Skipped")


def is_outcome(error, name):
    """Whether it is an exception of pytest's of that name: they call themselves builtins, and their base does not."""
    names = [kind.__name__ for kind in type(error).__mro__]
    bases = [kind for kind in type(error).__mro__ if kind.__name__ == "OutcomeException"]
    return name in names and any(kind.__module__ == "_pytest.outcomes" for kind in bases)


def said(error):
    """An exception as one text, with its notes."""
    notes = getattr(error, "__notes__", ())
    return "\n".join([f"{type(error).__name__}: {error}", *map(str, notes)])
