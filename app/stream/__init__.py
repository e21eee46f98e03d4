"""The Faust transport: fetching, batches in flight, prefix commit, rebalances."""
