"""The full-screen view, on textual: draws Snapshots, and asks for nothing but through a Watch."""
