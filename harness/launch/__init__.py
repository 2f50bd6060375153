"""Running planned cells as jobs: on this machine or on Slurm, both through submitit."""
