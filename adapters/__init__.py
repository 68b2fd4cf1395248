"""Batch systems: one module each, and the contract they share."""
