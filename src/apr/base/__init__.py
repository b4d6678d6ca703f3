"""Errors, files, digests, environment: what every room stands on (stdlib only)."""
