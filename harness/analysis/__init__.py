"""From the rows of a study to estimates, comparisons and verdicts on claims. Reads files only."""
