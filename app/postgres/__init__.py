"""The database: connections, the meaning of SQLSTATE, the circuit breaker."""
