"""The cells and stages of a study, the order in which they run, and the memory they need."""
