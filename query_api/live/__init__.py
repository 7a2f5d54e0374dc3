"""
Live streams: the documents that match now, and from then on every document that changes.

What has changed is read from the log, whose events name the rows that they touch; what it has become is read from the
tables. So any process can take a stream up where another left it, with nothing kept about it anywhere: its mark says
up to which position each view has been told (docs/decisions/0025).
"""
