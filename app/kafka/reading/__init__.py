"""Reading of topics without membership in a consumer group."""
