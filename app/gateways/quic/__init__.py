"""The way in over QUIC with client certificates: batches of metrics on streams, an ack for each."""
