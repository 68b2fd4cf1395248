"""The leader: turns updates into events, decisions into effects, with one durable append a turn."""
