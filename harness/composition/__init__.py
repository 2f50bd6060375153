"""From words and YAML files to settings and components. Hydra is used here only."""
