"""Who may speak at a gateway: credentials in, accounts out."""
