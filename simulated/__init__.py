"""What benchmarks and tests share: a trainer that trains nothing, made-up records, sweeps whose truth is known."""
