"""Reward components: each gives a value in [0, 1] to every sample of a batch."""
