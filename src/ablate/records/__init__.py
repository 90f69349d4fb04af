"""What is recorded about trials and sweeps on disk: written once, decoded once."""
