"""Where releases are published and fetched from: one file for each kind of place."""
