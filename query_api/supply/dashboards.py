"""`GET /v1/dashboards/…`: daily demand, top items, the order funnel, orders by status."""

from pydantic import Field

from projectors.supply.daily_demand import DailyDemand
from projectors.supply.items import Items
from projectors.supply.order_funnel import OrderFunnel
from query_api.parameters import Moment, PageParameters
from query_api.query import ComputedQuery, ListQuery
from schemas.messages import Id
from schemas.supply import views

FROM_DAY = "day >= to_char(:{0}::timestamptz AT TIME ZONE 'UTC' + {1}, 'YYYY-MM-DD')"
TO_DAY = "day < to_char(:{0}::timestamptz AT TIME ZONE 'UTC' + {1}, 'YYYY-MM-DD')"
REST_OF_DAY = "interval '1 day' - interval '1 microsecond'"
"""A day counts as its beginning in UTC, so a time within a day stands for the next one."""

DAYS = {"from_": FROM_DAY.format("from_", REST_OF_DAY), "to": TO_DAY.format("to", REST_OF_DAY)}


class Days(PageParameters):
    """A range of days: the first is in it, the last is not."""

    from_: Moment | None = Field(None, alias="from")
    to: Moment | None = None


class DemandFilters(Days):
    """Which demand is asked for."""

    item_id: Id | None = None
    site_id: Id | None = None


class DailyDemandList(ListQuery):
    """What was ordered each day, by `ordered_at` in UTC; one row for each currency."""

    route, projection, view = "dashboards/daily-demand", DailyDemand, views.DailyDemand
    parameters, sql = DemandFilters, "daily_demand.sql"
    filters = DAYS | {"site_id": "site_id = :site_id::text"}
    sorts = {"day": ("day", "currency")}  # a declaration, like the names beside it


class TopItemList(ListQuery):
    """What was ordered most, by net amount, falling; one row for each item and currency."""

    route, projection, view = "dashboards/top-items", DailyDemand, views.TopItem
    reads = (DailyDemand, Items)
    parameters, sql = Days, "top_items.sql"
    filters = DAYS
    sorts = {"-net": ("net DESC", "item_id", "currency")}


class OrderFunnelQuery(ComputedQuery):
    """How many orders ever reached each stage."""

    route, projection, view = "dashboards/order-funnel", OrderFunnel, views.OrderFunnel
    sql = "order_funnel.sql"


class ByStatusList(ListQuery):
    """How many orders have each status now; a status that no order has is left out."""

    route, projection, view, table = "dashboards/by-status", OrderFunnel, views.StatusCount, "statuses"
    sorts = {"status": ("status",)}  # a declaration, like the names beside it
