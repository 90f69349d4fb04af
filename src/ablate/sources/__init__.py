"""What a class's source is made of, found by reading files: imports, definitions, data beside it, its distribution.

Nothing is imported for it: a user's code does not run, and torch stays out of a command that only plans.
"""
