"""Modules that make one map of several of one size, one paper a file."""
