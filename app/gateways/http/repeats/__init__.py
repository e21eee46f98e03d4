"""Requests whose head the connection has sent before: a shorter path than through aiohttp."""
