"""`python -m apr`."""

import sys

from apr.cli.main import entry

sys.exit(entry())
