"""The totals above which orders need somebody's approval."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.errors import BadDefinition

LIMIT_VARIABLE = "EVERFOLD_APPROVAL_LIMIT"


@dataclass(frozen=True)
class ApprovalLimits:
    """Above which total, in minor units, an order needs approval."""

    default: int | None = None
    by_tenant: Mapping[str, int] = field(default_factory=dict)

    def of(self, tenant: str) -> int | None:
        """Return a tenant's limit; None where there is none."""
        return self.by_tenant.get(tenant, self.default)

    @classmethod
    def parse(cls, text: str) -> "ApprovalLimits":
        """
        Return the limits that a text states: one number for all tenants, `tenant=number` pairs, or both.

        Raises:
            BadDefinition: It is neither.
        """
        default: int | None = None
        by_tenant: dict[str, int] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            match = re.fullmatch(r"(?:([A-Za-z0-9][A-Za-z0-9._-]{0,63})=)?(\d{1,16})", part)
            if match is None:
                raise BadDefinition(LIMIT_VARIABLE, f"{part!r} is neither an amount nor tenant=amount")
            if match[1] is None:
                default = int(match[2])
            else:
                by_tenant[match[1]] = int(match[2])
        return cls(default, by_tenant)
