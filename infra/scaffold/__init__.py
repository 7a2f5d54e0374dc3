"""Writes the files of a new domain, aggregate, projection, query or workflow, each with its test, ready to run."""
