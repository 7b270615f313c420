"""Scores a finished trajectory, turn by turn. Knows nothing of optimisers."""
