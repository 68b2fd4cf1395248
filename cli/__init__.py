"""The `orch` command: a thin shell over the public API."""
