"""Pure functions over a few numbers: intervals, tests, a factorial model. No files, no records."""
