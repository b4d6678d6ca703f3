"""Plant a defect in every Python process of a control; its folder stands first in PYTHONPATH while a control runs.

PV_PLANT holds what to plant as JSON, PV_REPORT names the file that is told (a line of JSON an event). Standard library
only: this runs in the interpreter of the project, before anything of the project does.
"""

import atexit
import contextlib
import functools
import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import os
import sys

ASSERTIONS = ("AssertionError", "OutcomeException")  # a planted one would be taken for the test's own


def tell(**event):
    """Append one event to the report; processes of one run share it, so each line is one write."""
    path = os.environ.get("PV_REPORT")
    if path:
        line = json.dumps(event, default=repr) + "\n"
        with contextlib.suppress(Exception):  # the program must go on as if nobody listened
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            os.write(handle, line.encode())
            os.close(handle)


def named(target):
    """What "package.module:Class.name" names."""
    module, _, path = target.partition(":")
    found = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


class Plant:
    """One name that is replaced when its module has been executed."""

    def __init__(self, plan):
        self.target = plan["patch"]
        self.module, _, self.path = self.target.partition(":")
        self.how, self.value = plan["how"], plan["value"]
        self.reached = False

    def reach(self):
        """Note that the program came to the planted defect."""
        if not self.reached:
            self.reached = True
            tell(event="reached", target=self.target)

    def into(self, module):
        """Replace the name; what goes wrong is told, and the program goes on unharmed."""
        try:
            owner = module
            *way, last = self.path.split(".")
            for name in way:
                owner = getattr(owner, name)
            held = inspect.getattr_static(owner, last)
            setattr(owner, last, self.replacement(getattr(owner, last), held))
            tell(event="planted", target=self.target)
        except Exception as error:
            tell(event="unplanted", target=self.target, says=f"{type(error).__name__}: {error}")

    def replacement(self, original, held):
        """What takes the name's place, in the wrapping that the original has in its class."""
        if self.how == "value":
            return self.value
        if self.how == "with":
            return self.counted(self.other(original), held)
        return self.counted(self.simple(original), held)

    def other(self, original):
        """The replacement that a function of the project makes from the original."""
        folders = [os.getcwd(), os.path.join(os.getcwd(), "src"), os.path.join(os.getcwd(), "tests")]
        sys.path.extend(path for path in folders if path not in sys.path and os.path.isdir(path))
        return named(self.value)(original)

    def simple(self, original):
        """A function that gives one value, or raises, whatever it gets."""
        kind = named(self.value) if self.how == "raises" else None
        if kind is not None and any(base.__name__ in ASSERTIONS for base in kind.__mro__):
            raise TypeError(f"{self.value} is an assertion itself, so that every test fails for it")

        def planted(*args, **kwargs):
            if kind is not None:
                raise kind("planted by pv")
            return self.value

        async def planted_async(*args, **kwargs):
            return planted()

        return planted_async if inspect.iscoroutinefunction(original) else planted

    def counted(self, function, held):
        """The function with a note when it is called; a class, or what is no function, stays as it is."""
        if not inspect.isfunction(function) and not inspect.isbuiltin(function):
            return function

        @functools.wraps(function)
        def planted(*args, **kwargs):
            self.reach()
            return function(*args, **kwargs)

        if isinstance(held, property):
            return property(planted)
        if isinstance(held, (staticmethod, classmethod)):
            return staticmethod(planted) if isinstance(held, staticmethod) else classmethod(planted)
        return planted


class Loader:
    """The module's own loader, and the plant after it."""

    def __init__(self, loader, plant):
        self._loader, self._plant = loader, plant

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        """As the own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module):
        """Execute the module, then plant."""
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._plant.into(module)


class Finder:
    """Finds the one module that is planted in, through all other finders."""

    def __init__(self, plant):
        self.plant = plant

    def find_spec(self, name, path=None, target=None):
        """The spec of the module with our loader around its own; None for every other module."""
        if name != self.plant.module:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = Loader(spec.loader, self.plant)  # type: ignore[assignment]
                return spec
        return None


def plant():
    """Arrange what PV_PLANT asks for."""
    plan = json.loads(os.environ["PV_PLANT"])
    if plan.get("patch"):
        planted = Plant(plan)
        if planted.module in sys.modules:
            planted.into(sys.modules[planted.module])
        else:
            sys.meta_path.insert(0, Finder(planted))
    if plan.get("original"):
        atexit.register(look_for_original, plan["original"])


def look_for_original(path):
    """Tell when the file that was edited in a copy was imported from where the copy was made."""
    loaded = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    if any(file and os.path.realpath(file) == path for file in loaded):
        tell(event="original", target=path)


def next_of_this_name():
    """Run the sitecustomize that this one hides, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


if os.environ.get("PV_PLANT"):
    plant()
next_of_this_name()
