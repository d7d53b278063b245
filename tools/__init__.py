"""Model files with real shapes and random weights, for tests and benchmarks."""
