"""Verifying modules: against their authors' own numbers, and against what every module here must do."""
