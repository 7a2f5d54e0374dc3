"""Mappings of published data sets, one TOML file each."""
