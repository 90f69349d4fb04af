"""Checkpoints as tensors and plain values: reading one runs nothing that it names."""
