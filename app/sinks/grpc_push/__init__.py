"""The sink grpc: readings to a receiver of proto/receiver.proto, acknowledged batch by batch, in order per device."""
