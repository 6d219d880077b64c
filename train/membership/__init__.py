"""Who shares a run, and what they agree on: a coordinator in the driver, a member in each worker."""
