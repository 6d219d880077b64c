"""What a run ran on: its source, packages, machine and determinism class, as plain JSON."""
