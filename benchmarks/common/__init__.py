"""What several benchmarks share: arguments, reports, texts."""
