"""Judges: multimodal models that answer questions about chains and images, and readers of their answers."""
