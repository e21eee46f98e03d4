"""Commands of the sinks, and the one runner of all of them."""
