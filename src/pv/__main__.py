"""`python -m pv`: the same as the pv script, whose name a pipe viewer shares."""

import sys

from pv.cli.main import entry

sys.exit(entry())
