"""Blocks that take the place of a bottleneck or of a whole C3k2: (B, C, H, W) to (B, C', H, W), any H x W."""
