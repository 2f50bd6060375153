"""Runs a planned study as jobs, on this machine or on Slurm, both through submitit."""
