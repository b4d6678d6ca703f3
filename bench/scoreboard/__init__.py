"""The fault suite of source folders, planted before other loaders as well as ours; see docs/scoreboard.md."""
