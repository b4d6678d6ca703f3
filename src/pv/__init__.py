"""Read contracts, run what would refute them, compute what survived."""

__version__ = "0.1.0"
