"""Judges: an endpoint that answers by a schema, and rules that need no model. For training only."""
