"""
Keeps stored events readable for ever: a domain's registry file, its corpus of stored payloads, and the gates on both.

`versions.json` beside a domain's events says of every event type and version that ever shipped what its bytes look
like and who reads them. Classes are compared with it (`everfold schemas check`, part of `make check`), and what is in
it never changes but for the wider (`everfold schemas freeze`). See docs/decisions/0012-schema-registry.md.
"""
