"""Frozen models that look at pictures and read text, and the reading of their answers."""
