"""The load tester: a schedule of messages, the connections that send them, and the check that all of it arrived."""
