"""Credit, the TRL learner, cold start, the loop and its checkpoints."""
