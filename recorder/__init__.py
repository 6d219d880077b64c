"""Run Recorder: a sealed record of a training run that anyone can check."""

__version__ = "0.1.0"
