"""Measuring: complexity, latency, memory, and what a detector sees on sample images."""
