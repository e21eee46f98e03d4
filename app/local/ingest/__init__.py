"""What the gateways of the local stack need besides their programs: addresses, settings, accounts, certificates."""
