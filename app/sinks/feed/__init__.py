"""The sink http_feed: readings as JSON to an HTTP endpoint, in order per device."""
