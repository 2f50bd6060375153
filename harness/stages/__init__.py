"""Stages: made once, resumable, and named by a key of everything that decides their numbers."""
