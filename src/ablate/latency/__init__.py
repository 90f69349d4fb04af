"""Latency of a sweep's variants, measured interleaved in processes of their own (docs/latency.md)."""
