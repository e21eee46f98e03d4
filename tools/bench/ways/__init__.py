"""Parts of the benchmark of the gateways: what is sent, bare servers to compare with, and who sends."""
