"""The way in over gRPC: a UNIX socket, and TCP with client certificates."""

import os

# gRPC's core writes a line on standard error for each handshake that fails, so that anybody who knocks could fill the
# log. It reads this when it is first imported, which modules of this package do after this line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
