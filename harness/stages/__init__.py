"""Stages: made once, resumable, by one or several processes, and named by a key of what decides their numbers."""
