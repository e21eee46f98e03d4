"""The write path: queue, lanes, group commit, bisection, late rows."""
