"""Adapters before the detection head, one paper a file: a list of maps to a list of maps of the same shapes."""
