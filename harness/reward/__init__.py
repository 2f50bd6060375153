"""Rewards: the components of a sample, and the total as an expression over their names."""
