"""A comparison as a table, a page, LaTeX, a notebook, and figures."""
