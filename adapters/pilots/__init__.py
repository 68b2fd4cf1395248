"""Pilots: tasks of a batch system that are agents. Many short jobs then run in few tasks, as fast as on one host."""
