"""Chain preference: a judge sees two arms' chains for a prompt, in both orders, and votes for one of them."""
