"""Tests. The folder tells the price: unit and contract need nothing, acceptance needs everything."""
