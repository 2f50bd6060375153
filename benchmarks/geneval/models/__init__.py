"""The frozen models that GenEval scores with: Mask2Former, and CLIP for colors."""
