"""Commands about the stack of this machine, and whether it is well."""
