"""GenEval (arXiv 2310.11513): its published prompts (`files`) and the rules that judge an image
(`rules`).
"""
