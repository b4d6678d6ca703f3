"""What a model is, as pure values: configuration, presets, tensor inventory, counts."""
