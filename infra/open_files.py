"""
How many files and connections a process may have open at a time.

A user's processes start with a bound of 1,024 as a rule, which is there for programs that wait with `select`; ours
hold a descriptor for each connection and each live stream, and may go up to the bound that an administrator has set.
"""

import resource

OPEN_FILES_MAX = 65_536


def allow_open_files() -> None:
    """Raise this process's bound, and with it that of the processes it starts, as far as it may raise it itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(OPEN_FILES_MAX, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
