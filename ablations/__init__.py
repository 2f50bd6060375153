"""Studies: one YAML file each, no code."""
