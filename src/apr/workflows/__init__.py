"""One call for each command that is not a run: import with its reference, evaluate, generate, the demo."""
