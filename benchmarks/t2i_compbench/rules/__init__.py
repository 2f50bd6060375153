"""The scoring rules of T2I-CompBench, as pure functions over plain records: no model, no image, no file."""
