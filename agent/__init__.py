"""What a policy says and how it is sampled: protocol, trajectory, engines. Knows nothing of rewards."""
