"""What `orch log` does beyond single lines: transitions, files that are named, the log for other tools."""
