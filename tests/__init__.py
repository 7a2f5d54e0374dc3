"""Tests. The folder tells the price: unit and contract need nothing, integration one service, acceptance all."""
