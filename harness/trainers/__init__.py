"""Trainers: each declares stages from a starting checkpoint to a trained one."""
