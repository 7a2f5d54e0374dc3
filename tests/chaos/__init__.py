"""Fault runs: a seeded plan of kills under load, then heal, quiesce, and check from outside what must hold."""
