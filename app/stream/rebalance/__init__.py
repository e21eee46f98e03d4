"""What a rebalance gives a worker, where reading begins, and what is reported of the rebalance."""
