"""Benchmarks: one YAML each (the `benchmarks` group) and one folder of code each."""
