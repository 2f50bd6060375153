"""What `harness.bench score` runs: our scorers beside other ways to the same numbers."""
