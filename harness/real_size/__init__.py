"""`python -m harness.bench real_size`: what a model of real size takes, with random weights."""
