"""What is to be run: parameters of a run, configuration files, experiments, the plan, and what its jobs will need."""
