"""The frozen models that T2I-CompBench scores with: BLIP-VQA, UniDet, DPT."""
