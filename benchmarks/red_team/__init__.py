"""The red team: cheats against rewards, as played episodes and by training."""
