"""The fault runner lives in tools/faults; `python -m tests.faults`, as older instructions have it, runs the same."""

from tools.faults.__main__ import main

if __name__ == "__main__":
    main()
