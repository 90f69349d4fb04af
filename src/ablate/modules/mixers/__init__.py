"""Token mixers: attention over places, and what takes its part; one paper a file."""
