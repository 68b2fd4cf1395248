"""What a batch system starts on a node: one attempt of a run, run and ended as an agent would, by way of files."""
