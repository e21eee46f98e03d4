"""Dead letters as an operator works with them: chosen, counted, mended, put back, taken out and in, deleted."""
