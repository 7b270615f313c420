"""Where the agent acts: questions, the fictional world, the search environment, episodes."""

from envs import without_torch as without_torch
