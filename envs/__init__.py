"""Where the agent acts: questions, the fictional world, the search environment, episodes."""
