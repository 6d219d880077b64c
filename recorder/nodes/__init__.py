"""Watching nodes: system metrics."""
