"""T2I-CompBench: the prompts of its official files (`files`) behind the harness's protocol (`benchmark`)."""
