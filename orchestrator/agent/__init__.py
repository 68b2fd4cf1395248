"""The agent: outlives the leader, starts attempts on one host, keeps a journal of outcomes."""
