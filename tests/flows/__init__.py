"""Workflows that the tests run."""
