"""`GET /v1/lots` and `/v1/lots/{item_id}/{lot}/trace`."""

from pydantic import Field

from projectors.supply.lot_traces import LotTraces
from projectors.supply.stock_levels import StockLevels
from query_api.parameters import Moment, PageParameters
from query_api.query import ListQuery
from schemas.messages import Id
from schemas.supply import views


class LotFilters(PageParameters):
    """Which lots are asked for."""

    site_id: Id | None = None
    item_id: Id | None = None
    expiring_before: Moment | None = Field(
        None, description="Lots on hand whose last day begins (in UTC) before this."
    )


class LotList(ListQuery):
    """Lots at sites, by site, item and lot; those of which nothing is left too, unless asked by expiry."""

    route, projection, view, parameters = "lots", StockLevels, views.LotView, LotFilters
    table = "lots"
    filters = {  # a declaration, like the names beside it
        "site_id": "site_id = :site_id::text",
        "item_id": "item_id = :item_id::text",
        "expiring_before": "on_hand > 0 AND expires_on < (:expiring_before::timestamptz AT TIME ZONE 'UTC'"
        " + interval '1 day' - interval '1 microsecond')::date",
    }
    sorts = {"site_id": ("site_id", "item_id", "lot")}


class LotTraceQuery(ListQuery):
    """
    A lot's way: where it is, what recalls hold it, and its movements in the order in which they were recorded.

    What left a site by a count or a transfer has a negative quantity.
    """

    route, projection, view = "lots/{item_id}/{lot}/trace", LotTraces, views.LotTrace
    table, frame = "movements", "traces"
    filters = {"item_id": "item_id = :item_id::text", "lot": "lot = :lot::text"}
    sorts = {"at": ("at",)}  # a declaration, like the names beside it
