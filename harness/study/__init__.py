"""Which cells and stages a study consists of, in which order they run, and what memory they need."""
