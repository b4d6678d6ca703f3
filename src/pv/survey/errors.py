"""Errors of writing skeletons and bundles."""

from __future__ import annotations

from dataclasses import dataclass

from pv.errors import PvError


@dataclass(kw_only=True, eq=False)
class AlreadyThere(PvError):
    """A file would be replaced.

    Somebody may have filled it in; bundles and the skeletons of `pv scaffold` are written to
    new files only.
    """

    id = "PV501"
    text = "{path} is there already"
    help = "name another, or move it away"
    path: str


@dataclass(kw_only=True, eq=False)
class NoTests(PvError):
    """There are no tests to make falsifiers of.

    A skeleton names tests that exist. Functions that begin with test, and methods of classes that begin with
    Test, count; files that do not parse are passed over.
    """

    id = "PV502"
    text = "{path} defines no test that a skeleton could name"
    help = "name a file with functions whose names begin with test"
    path: str


@dataclass(kw_only=True, eq=False)
class BundleWrong(PvError):
    """The archive is not one that `pv bundle` writes, or a byte of it was changed.

    Every file of a bundle stands in its list by digest, so that contracts and evidence can be believed elsewhere.
    """

    id = "PV503"
    text = "{path} is no whole bundle of pv ({reason})"
    help = "fetch it again from where it was whole"
    exit_code = 1
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class TestsElsewhere(PvError):
    """The tests do not lie in the project.

    A contract names a test by its path from the root of the project, and these have none.
    """

    id = "PV513"
    text = "{path} does not lie below {root}, the root of this project"
    help = "run pv in the project of the tests; its root is the nearest folder with .git or pyproject.toml"
    path: str
    root: str


@dataclass(kw_only=True, eq=False)
class NameWrong(PvError):
    """The name of a contract is not plain.

    It is also a part of paths and ids: a name such as ../x would be written elsewhere.
    """

    id = "PV514"
    text = "{name} is no name of a contract"
    help = "take letters, digits, - and _, such as slug-v1; -o FILE says where to"
    name: str
