"""Call one function of the project, and tell how it ended. Arguments: package.module:function."""

import sys
import traceback

from pv_told import is_assertion, is_skip, named, said, stand_in_project, tell


def call(function):
    """How a call ends: held, false, raised, skipped, or something that is no answer."""
    try:
        value = function()
    except BaseException as error:
        traceback.print_exc()
        if is_skip(error):
            return {"how": "skipped", "says": said(error)}
        return {"how": "raised", "asserted": is_assertion(error), "says": said(error)}
    if value is None or value is True:
        return {"how": "held", "says": ""}
    return {"how": "false" if value is False else "odd", "says": f"it returned {value!r}"}


def main():
    """Find the target, call it, tell."""
    stand_in_project()
    try:
        function = named(sys.argv[1])
    except BaseException as error:
        traceback.print_exc()
        tell(event="ended", how="unimportable", says=said(error))
        return
    tell(event="ended", **call(function))


if __name__ == "__main__":
    main()
