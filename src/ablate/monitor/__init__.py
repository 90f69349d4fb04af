"""Progress of trials, read from disk: live display and status."""
