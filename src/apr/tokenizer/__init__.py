"""Text to ids and back, through one protocol."""
