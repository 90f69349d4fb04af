"""Hydra finds the sweeper, the launcher and the search path here; the work is done in `ablate`."""
