"""Reward components. Each scores every sample of a batch with a value in [0, 1]."""
