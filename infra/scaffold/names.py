"""The forms of a name that templates are filled in with."""

import re
from dataclasses import dataclass

from schemas.errors import BadDefinition


@dataclass(frozen=True)
class Name:
    """A thing's name in the forms that code needs: `loan-item` is `loan_item`, `LoanItem`, `loan items`."""

    text: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.text):
            raise BadDefinition(
                f"name {self.text!r}", "must be lower-case words joined by hyphens, such as loan-item"
            )

    @property
    def snake(self) -> str:
        """As modules and fields have it."""
        return self.text.replace("-", "_")

    @property
    def camel(self) -> str:
        """As classes have it."""
        return "".join(word.capitalize() for word in self.text.split("-"))

    @property
    def words(self) -> str:
        """As people say it."""
        return self.text.replace("-", " ")

    @property
    def plural(self) -> "Name":
        """More than one of it: what a collection of streams is called."""
        if self.text.endswith("y") and self.text[-2:-1] not in "aeiou":
            return Name(self.text[:-1] + "ies")
        return Name(self.text + ("es" if self.text.endswith(("s", "x", "ch", "sh")) else "s"))
