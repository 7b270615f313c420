"""Inference engines behind agent.engine.Engine, one a file."""
