"""Running programs by their own pages: /metrics and /ready in, findings out."""
