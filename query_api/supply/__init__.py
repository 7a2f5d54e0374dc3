"""The questions that hospital supply answers, one file for each resource."""
