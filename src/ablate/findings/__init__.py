"""What a comparison supports and what it does not, in sentences."""
