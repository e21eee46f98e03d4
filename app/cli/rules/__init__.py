"""Commands about rules and the alerts that come of them."""
