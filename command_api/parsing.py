"""
Makes commands of what was sent: ids from the address, fields from the body, and the two that every command has.

`reason` and `occurred_at` may stand in the body of every command. Where a command has a field of that name
itself, the field gets it too.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from infra.json_body import Error, errors_of
from schemas import Command
from schemas.errors import Invalid
from schemas.messages import Instant, Text

COMMON = ("reason", "occurred_at")
_validators: Mapping[str, TypeAdapter[Any]] = {
    "reason": TypeAdapter(Text),
    "occurred_at": TypeAdapter(Instant),
}


class CommandReader:
    """Reads one command's requests."""

    def __init__(self, model: type[Command]) -> None:
        self.model = model
        self._validator = model.__pydantic_validator__
        fields = model.model_fields
        self._id_names = {name: fields[name].alias or name for name in model.id_fields}
        self._own = frozenset(
            name for name in COMMON if any(name in (field, info.alias) for field, info in fields.items())
        )

    def read(
        self,
        ids: Mapping[str, Any],
        data: Mapping[str, Any],
        *,
        ids_pointer: str = "",
        data_pointer: str = "",
        known_errors: list[Error] | None = None,
    ) -> tuple[Command, str | None, datetime | None]:
        """
        Return the command, its reason and when it happened.

        Raises:
            Invalid: With a pointer to each thing that is wrong.
        """
        fields = dict(data)
        errors = list(known_errors or ())
        reason = occurred_at = None
        if "reason" in fields:
            reason = self._common("reason", fields, data_pointer, errors)
        if "occurred_at" in fields:
            occurred_at = self._common("occurred_at", fields, data_pointer, errors)
        for name, sent_as in self._id_names.items():
            if sent_as in fields:
                errors.append({"pointer": f"{data_pointer}/{sent_as}", "message": "unknown field"})
            if name in ids:
                fields[sent_as] = ids[name]
        try:
            command = self._validator.validate_python(fields)
        except ValidationError as error:
            errors += self._placed(errors_of(error), ids_pointer, data_pointer)
            raise Invalid(errors) from error
        if errors:
            raise Invalid(errors)
        return command, reason, occurred_at

    def _common(self, name: str, fields: dict[str, Any], pointer: str, errors: list[Error]) -> Any:
        value = fields[name] if name in self._own else fields.pop(name)
        if value is None:
            return None
        try:
            return _validators[name].validate_python(value)
        except ValidationError as error:
            if name not in self._own:
                errors += errors_of(error, f"{pointer}/{name}")
            return None

    def _placed(self, errors: list[Error], ids_pointer: str, data_pointer: str) -> list[Error]:
        """Point at where each field was sent: among the ids, or in the body."""
        of_ids = {f"/{sent_as}" for sent_as in self._id_names.values()}
        return [
            {
                **error,
                "pointer": (ids_pointer if error["pointer"] in of_ids else data_pointer) + error["pointer"],
            }
            for error in errors
        ]
