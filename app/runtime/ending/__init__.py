"""The end of a process: its exit code, its last words, and the longest its stop may take."""
