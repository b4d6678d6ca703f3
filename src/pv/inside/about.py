"""Print what the project's interpreter is, as JSON. It may not know pv: standard library only."""

import importlib.metadata
import json
import os
import platform
import sys


def cpu():
    """The name of the processor, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            named = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
            return next(named, "") or platform.processor()
    except OSError:
        return platform.processor()


def packages():
    """Installed distributions, name to version."""
    found = ((dist.metadata["Name"], dist.version) for dist in importlib.metadata.distributions())
    return dict(sorted((name, version) for name, version in found if name))


if __name__ == "__main__":
    told = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu(),
        "cpus": os.cpu_count(),
        "packages": packages(),
        "sys_path": sys.path[1:],  # without the folder of this script
    }
    print(json.dumps(told))
