"""Training through Ultralytics' own trainer, with grafts, exempt parameters and guarded comparability."""
