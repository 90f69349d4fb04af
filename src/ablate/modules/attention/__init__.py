"""Attention over channels and positions by convolutions and pooling, one paper a file."""
