"""How many series a sink lets through: what is known is counted exactly, what is over the limit is estimated."""
