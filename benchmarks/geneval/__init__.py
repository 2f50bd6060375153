"""GenEval (arXiv 2310.11513): its published prompts (`files`), and the rules by which an image is right
or wrong (`rules`).
"""
