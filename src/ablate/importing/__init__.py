"""Importing: a user's modified network file, aligned with its stock ancestor, becomes a variant of it."""
