"""Comparing runs, and running them again."""
