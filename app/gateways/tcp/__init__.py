"""The way in over TCP and TLS: JSON lines or Influx lines, with cumulative acks."""
