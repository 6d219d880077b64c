"""Running workers and collecting what they say: one file a launcher."""
