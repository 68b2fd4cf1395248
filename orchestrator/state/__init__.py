"""The pure state of a run: the law of states, the fold, the decisions. No I/O here."""
