"""From an environment and a configuration to a trained agent in a run directory."""
