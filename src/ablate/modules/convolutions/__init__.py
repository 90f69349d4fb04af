"""Convolutions, one paper a file: (B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride)), any H x W.

Each ends with batch norm and SiLU, as Ultralytics' `Conv` does, whose place it takes.
"""
