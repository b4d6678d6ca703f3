"""Foreign checkpoints in: GGUF and Hugging Face."""
