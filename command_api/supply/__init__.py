"""
Hospital supply: the reference domain's rules and workflows, and its entry point.

Everything here is pure. This module imports no other of the domain's, as every role loads the entry point.
"""

import json
from typing import Any

from infra.domains import Domain

_SITE = {
    "command": "sites.register",
    "id": {"site_id": "S1"},
    "data": {"name": "Main store", "time_zone": "Europe/Berlin"},
}
_ITEM = {"command": "items.register", "id": {"item_id": "GLOVES"}, "data": {"name": "Gloves, box of 100"}}
_STOCK = {
    "command": "stock.receive",
    "id": {"site_id": "S1", "item_id": "GLOVES"},
    "data": {"quantity": 500, "lot": "L1", "expires_on": "2030-12-31"},
}
_PRICE = {"amount": 495, "currency": "EUR"}
_ORDER = {
    "customer_id": "C1",
    "site_id": "S1",
    "lines": [{"line_no": 1, "item_id": "GLOVES", "quantity": 20, "unit_price": _PRICE}],
}


_HEAD = "/tmp/everfold-{run}"
_POSITION = f"\"$(grep -i '^everfold-position:' {_HEAD} | tr -d '\\r')\""


def _curl(url: str, body: Any = None, *, more: str = "") -> str:
    """Return a command line, with its JSON's braces doubled for `str.format`."""
    line = f"curl -s -H 'Authorization: Bearer {{token}}' {url}{more}"
    if body is None:
        return line
    text = json.dumps(body).replace("{", "{{").replace("}", "}}")
    return f"{line} -H 'Content-Type: application/json' -d '{text}'"


DOMAIN = Domain(
    "supply",
    examples=(
        _curl("{command_url}/v1/commands", {"commands": [_SITE, _ITEM, _STOCK]}),
        _curl("{command_url}/v1/orders/INV-{run}/place", _ORDER, more=f" -D {_HEAD}"),
        _curl("{query_url}/v1/orders/INV-{run}", more=f" -H {_POSITION}"),
    ),
)
