"""What tests and benchmarks share: model files with random weights, and servers as processes."""
