"""Images made elsewhere.

`folder` finds them, `name_checks` and `image_checks` check them, `assignment` assigns them to prompts, and
`listing` writes them as samples.
"""
