"""One training step: micro-batches, the reduction tree, the exchange among workers, and evaluation."""
