"""Commands of the sinks, and the program that runs them."""
