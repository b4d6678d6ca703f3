"""Figures beside peers: one module a figure, both sides run in turn in processes of their own."""
