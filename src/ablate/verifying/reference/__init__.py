"""The modules as their papers have them, with no thought of speed: an oracle, and what speed is compared with."""
