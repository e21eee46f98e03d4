"""Messages whose head their connection has sent before: a shorter way than through aiohttp."""
