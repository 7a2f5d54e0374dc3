"""Tools of the reference domain: the importer of order lines, generated orders, and the demonstration."""
