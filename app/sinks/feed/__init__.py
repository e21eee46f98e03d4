"""The sink http_feed: readings as JSON to somebody's HTTP endpoint, in order per device."""
