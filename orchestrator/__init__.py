"""orch: a workflow orchestrator in which every change of state is an event in an append-only log."""
