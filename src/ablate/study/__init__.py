"""What is to be run: the grid, designs, controls, and a trial's identity."""
