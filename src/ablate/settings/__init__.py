"""A trial's settings: their types, checks, text forms and signature."""
