"""Metrics, controls, significance and reports."""
