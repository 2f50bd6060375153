"""Judges: multimodal models that answer questions about chains and images, and the reading of their answers."""
