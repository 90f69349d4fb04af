"""Modules that double a map, one paper a file: (B, C, H, W) to (B, C, 2 H, 2 W)."""
