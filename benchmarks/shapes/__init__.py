"""The shapes world: colored, textured shapes on a 24 x 24 pixel canvas, small enough to train on with two
CPU cores.

Read in this order: `vocabulary` (what an object can be), `facts` (what a prompt says), `scene` and
`render` (what an image shows), `prompts` and `records` (what is asked and imitated), `detector` (pixels
to objects), `scoring` and `oracle` (objects to scores and answers), `simulated` and `simulated_vision`
(the same with errors, which `calibration` measures), `chains` (as interventions read and write them),
`benchmark` (all of it behind the harness's protocol).
"""
