"""Change of value and rolling windows."""
