"""Frozen models that read images and text, and the readers of their answers."""
