"""Tokens, parts of speech and noun phrases of prompts: from spaCy, from an export of its output, or by
rules.
"""
