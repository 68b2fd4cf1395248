"""Fakes and checks for tests, ours and those of third parties: a log in memory, a batch system with seeded faults."""
