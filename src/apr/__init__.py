"""Continue pretraining from a checkpoint, with proof before step 1 that it is that checkpoint."""

__version__ = "0.1.0"
