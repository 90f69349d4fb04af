"""Losses: one paper each, plain torch. docs/losses.md has the contract."""
