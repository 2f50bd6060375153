"""Policies: models that write a chain and draw an image, and sources of images made elsewhere."""
