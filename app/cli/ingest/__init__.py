"""Commands of the gateways, and the one runner of all of them."""
