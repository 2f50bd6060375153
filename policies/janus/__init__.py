"""Janus as a policy: one class for the miniature and for Janus-Pro and GoT-R1 checkpoints."""
