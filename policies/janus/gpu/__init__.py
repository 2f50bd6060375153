"""Janus's part of `python -m harness.bench gpu`."""
