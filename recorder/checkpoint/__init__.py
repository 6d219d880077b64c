"""Checkpoints: the resume state, written and committed beside training."""
