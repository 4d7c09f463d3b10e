"""What a run was asked to do: defaults, a configuration file, the environment, flags."""
