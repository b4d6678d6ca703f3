"""Plan, loop, optimizer, schedule, checkpoints, run directory."""
