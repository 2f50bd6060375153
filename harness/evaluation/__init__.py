"""Stage programs that draw a benchmark's prompts and score the samples."""
