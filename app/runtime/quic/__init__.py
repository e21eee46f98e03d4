"""QUIC as gateway and client speak it: the contract, frames on streams, a connection on a UDP socket."""
