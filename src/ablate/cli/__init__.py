"""The command line: verbs, Hydra, error messages."""
