"""Run tests by pytest, with a note in the JUnit file of what each raised. Arguments: JUnit file, node ids."""

import importlib.util
import os
import sys

import pv_told as told


class Notes:
    """Adds to each test of the JUnit file what its format has no place for."""

    def pytest_collection_finish(self, session):
        """Its node id."""
        told.tell(event="selected", count=len(session.items))
        for item in session.items:
            item.user_properties.append(("pv.id", item.nodeid))

    def pytest_deselected(self, items):
        """How many a filter took away."""
        told.tell(event="deselected", count=len(items))

    def pytest_runtest_logreport(self, report):
        """Whether a test passed that was marked as one that fails."""
        if report.when == "call" and report.passed and hasattr(report, "wasxfail"):
            told.tell(event="xpass", id=report.nodeid)

    def pytest_exception_interact(self, node, call, report):
        """Whether it was an assertion that failed, or something else that broke."""
        if call.excinfo is not None and hasattr(node, "user_properties"):
            asserted = told.is_assertion(call.excinfo.value)
            told.tell(event="raised", id=node.nodeid, when=call.when, asserted=asserted)


def arguments(junit, node_ids):
    """Without a cache, without the workers and the coverage limit that the project's options may ask for."""
    options = ["-p", "no:cacheprovider", f"--rootdir={os.getcwd()}", f"--junitxml={junit}"]
    if importlib.util.find_spec("xdist") is not None:
        options.append("-n0")
    if importlib.util.find_spec("pytest_cov") is not None:
        options.append("--no-cov")
    return [*options, *node_ids]


def main():
    """Run them, and exit as pytest does."""
    sys.path[0] = os.getcwd()  # as `python -m pytest` has it
    try:
        import pytest
    except ImportError as error:
        told.tell(event="ended", how="unimportable", says=str(error))
        return 2
    return int(pytest.main(arguments(sys.argv[1], sys.argv[2:]), plugins=[Notes()]))


if __name__ == "__main__":
    sys.exit(main())
