"""Rebalances by force, and the delay of the last record of each partition after each of them."""
