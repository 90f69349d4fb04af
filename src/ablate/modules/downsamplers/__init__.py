"""Modules that halve a map, one paper a file: (B, C, H, W) to (B, C', ceil(H / 2), ceil(W / 2))."""
