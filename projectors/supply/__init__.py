"""
The read models of hospital supply, one folder each: a pure fold and its table.

Rows are values: a fold returns a new row and never changes the one it was given, so a fold that fails leaves
nothing behind. What a row's `encode` gives is what readers are served, byte for byte, so a row that was read
back and folded on must encode as one that was never written.
"""
