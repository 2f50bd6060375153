"""Tokens, parts of speech and noun phrases of prompts: spaCy where its model is there, an export of it,
or rules.
"""
