"""Which tolerance step zero needs: the noise of equal computations beside the weakest faults (docs/tolerance.md)."""
