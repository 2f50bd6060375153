"""Training data of SFT: GoT records from files or from a benchmark, and their token ids."""
