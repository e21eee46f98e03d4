"""Commands about what the servers hold: tables, topics, accounts."""
