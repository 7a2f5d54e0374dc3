"""What live streams say is what the document says that they do, as Schemathesis reads it."""

from importlib import import_module
from typing import Any

import pytest
from pydantic.json_schema import models_json_schema

from infra.openapi import document
from query_api.live import messages
from query_api.live.messages import as_server_sent
from query_api.live.openapi import live_paths, live_schemas
from query_api.live.subscription import live_views
from query_api.supply.orders import OrderList
from query_api.supply.sites import SiteList

# Not imported by name: with what it imports itself, checking its types would change what is known of others.
schemathesis: Any = import_module("schemathesis")
transport: Any = import_module("schemathesis.core.transport")
requests: Any = import_module("requests")
VIEWS = live_views([OrderList, SiteList])
POSITION = "p1.3.2a.9f31c2d4.0a1b2c"
SITE = b'{"site_id":"S1","stream":"sites/S1","version":1,"name":"Main","time_zone":"UTC"}'
PUT = messages.put("sites", "S1", POSITION, SITE)
DELETE = messages.delete("orders", "O1", POSITION)
BOTH = messages.of_views(["orders", "sites"])
BOOK = b'{"site_id":"S1","stream":"sites/S1"}'


@pytest.fixture(scope="module")
def described() -> Any:
    """The operation of the document."""
    api = document("Live", "Live streams alone.")
    api["paths"] = live_paths(VIEWS, {})
    models = [(query.view, "serialization") for query in VIEWS.values()]
    _, definitions = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]  # a literal
    api["components"]["schemas"] |= definitions["$defs"] | live_schemas(VIEWS)
    return schemathesis.openapi.from_dict(api)["/v1/live"]["GET"]


def answer(*said: bytes) -> Any:
    """Return a stream that has said this."""
    request = requests.Request("GET", "http://everfold.test/v1/live").prepare()
    headers = {"content-type": ["text/event-stream; charset=utf-8"]}
    return transport.Response(200, headers, b"retry: 1000\n\n" + b"".join(said), request, 0.1, verify=True)


@pytest.mark.parametrize(
    "said",
    [
        (),
        (as_server_sent(messages.SNAPSHOT, None, PUT), as_server_sent(messages.SNAPSHOT_END, "m", BOTH)),
        (as_server_sent(messages.CHANGE, "m", PUT), as_server_sent(messages.CHANGE, "n", DELETE)),
        (as_server_sent(messages.RESET, None, BOTH), as_server_sent(messages.SNAPSHOT_END, "m", BOTH)),
        (as_server_sent(messages.HEARTBEAT, "m", b"{}"), as_server_sent(messages.CHANGE, "m", PUT)),
    ],
    ids=["nothing yet", "snapshot", "changes", "reset", "sign of life"],
)
def test_what_streams_say_is_described(described: Any, said: tuple[bytes, ...]) -> None:
    described.validate_response(answer(*said))


@pytest.mark.parametrize(
    "said",
    [
        as_server_sent("news", "m", PUT),
        as_server_sent(messages.CHANGE, "m", BOTH),
        as_server_sent(messages.RESET, None, PUT),
        as_server_sent(messages.RESET, None, messages.of_views(["lots"])),
        as_server_sent(messages.CHANGE, "m", messages.put("sites", "S1", POSITION, BOOK)),
        as_server_sent(messages.CHANGE, "m", messages.put("orders", "S1", POSITION, SITE)),
        as_server_sent(messages.CHANGE, "m", messages.put("lots", "S1", POSITION, SITE)),
        b"event: change\ndata: {\n\n",
    ],
    ids=[
        "event",
        "views for change",
        "change for views",
        "views",
        "document",
        "view's document",
        "view",
        "JSON",
    ],
)
def test_what_streams_never_say_is_not(described: Any, said: bytes) -> None:
    with pytest.raises(BaseException, match="violates schema"):
        described.validate_response(answer(said))
