"""`python -m harness.bench gpu`: checks and measurements on a CUDA GPU, in a fixed time."""
