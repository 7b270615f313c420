"""Scripted policies: experts, noisy demonstrators, guessers."""
