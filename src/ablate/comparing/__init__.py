"""From the records of a sweep to the answer: table, statistics, figures, report.

Reads records only. Nothing here imports torch, ultralytics or MLflow; `table` does not import
matplotlib either.
"""
