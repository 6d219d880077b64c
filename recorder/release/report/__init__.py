"""A run as one page that opens offline: its curves, its course and what it was made of."""
