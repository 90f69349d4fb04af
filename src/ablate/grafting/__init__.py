"""Grafting: insertion points by name, surgery on the built network, and weights that survive it."""
