"""T2I-CompBench: the prompts of its official files (`files`), and the benchmark that the harness uses
(`benchmark`).
"""
