"""Fast forms of what the modules compute: pure torch, and Triton on GPUs. Which form a module takes: `switch`."""
