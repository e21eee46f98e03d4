"""Pure: pages of /metrics and the answers of Kafka in, again and again; rates, totals and rows out."""
