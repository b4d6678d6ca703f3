"""Planted faults: what has gone wrong silently elsewhere, each to be refused here before step 1."""
