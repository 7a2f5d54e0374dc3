"""`GET /v1/stock-levels` and `/v1/stock-levels/{site_id}/{item_id}`."""

from pydantic import Field

from projectors.supply.stock_levels import StockLevels
from query_api.parameters import PageParameters
from query_api.query import DocumentQuery, ListQuery
from schemas.messages import INTEGER_MAX, Id
from schemas.supply import views


class StockFilters(PageParameters):
    """Which stock is asked for."""

    site_id: Id | None = None
    item_id: Id | None = None
    below: int | None = Field(
        None, ge=-INTEGER_MAX, le=INTEGER_MAX, description="Fewer available units than this."
    )


class StockLevelList(ListQuery):
    """What sites have of items, by site, then by item."""

    route, projection, view, parameters = "stock-levels", StockLevels, views.StockLevel, StockFilters
    filters = {  # a declaration, like the names beside it
        "site_id": "site_id = :site_id::text",
        "item_id": "item_id = :item_id::text",
        "below": "available < :below::bigint",
    }
    sorts = {"site_id": ("site_id", "item_id")}


class StockLevelDocument(DocumentQuery):
    """What one site has of one item, by lot."""

    route, projection, view = "stock-levels/{site_id}/{item_id}", StockLevels, views.StockLevel
    stream = "stock/{site_id}/{item_id}"
