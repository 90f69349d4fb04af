"""Figures of a comparison, one kind a file; `ablate.report.figure_list` is the list of them all."""

KINDS = ("png", "svg", "pdf")  # of files that a figure is written as
