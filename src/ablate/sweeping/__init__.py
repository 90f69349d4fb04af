"""Sweeping: from the factors of a command to trials, and through them to a comparison."""
