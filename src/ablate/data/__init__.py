"""Data sets: the built-in one, the catalogue of the others, and their checks. Nothing here imports torch."""
