"""Files: written whole or not at all, locked, and laid out below the output folder."""
