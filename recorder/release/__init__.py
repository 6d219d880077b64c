"""What goes out to others: a run's record checked for secrets, described, signed, published, and shown."""
