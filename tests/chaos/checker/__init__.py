"""
What must hold after a fault run, checked from outside: a program that imports nothing of the application.

It has its own reading of the log, its own hashes, and its own fold of the reference domain. Each check is a function
of `Evidence` and yields what does not hold, so each can be shown to bite (tests/unit/chaos).
"""
