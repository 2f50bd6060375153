"""Interventions: what an image is drawn from, other than the chain that the model wrote for its prompt.

Each is a pure function on text, `Case -> Change`, without torch or a model. Read in this order: `case` (what
an intervention receives and returns), `reading` (what a benchmark says of a prompt), `pool` (the chains of
all prompts), `edits` (how boxes and segments of a chain's text change), then the interventions themselves.
"""
