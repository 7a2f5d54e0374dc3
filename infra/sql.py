"""
Statements from `.sql` files, with the names of schemas filled in.

A file is read once. Its leading comment says what it is for; `{namespace}` and other placeholders are names of
schemas, checked to be plain identifiers, because a name cannot be a parameter of a statement. The comment is
sent along: it says in `pg_stat_activity` and in the server's log who is asking.
"""

import re
from functools import lru_cache
from importlib import resources

from schemas.errors import BadDefinition

_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@lru_cache(maxsize=512)
def load_sql(package: str, file: str, **names: str) -> str:
    """
    Return the statement in a package's file, its placeholders replaced by names.

    Raises:
        BadDefinition: A name is not a plain identifier.
    """
    text = resources.files(package).joinpath(file).read_text()
    for placeholder, name in names.items():
        if not _IDENTIFIER.fullmatch(name):
            raise BadDefinition(
                f"schema {name}", "must be lower-case letters, digits and underscores, 63 at most"
            )
        text = text.replace("{" + placeholder + "}", name)
    return text


def storable(text: str) -> str:
    """Return a text, such as an error's, with what PostgreSQL takes in none written out: NUL, halves of pairs."""
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()
