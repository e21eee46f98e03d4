"""The load tester's command."""
