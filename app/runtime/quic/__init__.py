"""QUIC as both of its ends here speak it: the contract, frames on streams, a connection on a UDP socket."""
