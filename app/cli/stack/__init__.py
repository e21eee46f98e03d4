"""Commands about the stack of this machine, and whether the stack is well."""
