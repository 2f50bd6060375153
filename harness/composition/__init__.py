"""The command line and YAML files, made into settings and components with Hydra."""
