"""Episodes to evaluate on, and the numbers that come out."""
