"""`GET /v1/dashboards/…`: demand by day and over time, top items, the order funnel, orders by status."""

from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

from pydantic import BeforeValidator, Field, model_validator

from projectors.supply.daily_demand import DailyDemand
from projectors.supply.items import Items
from projectors.supply.order_funnel import OrderFunnel
from query_api.parameters import Moment, PageParameters, Parameters
from query_api.query import ComputedQuery, ListQuery
from schemas.messages import Day, Id
from schemas.supply import views

FROM_DAY = "day >= to_char(:{0}::timestamptz AT TIME ZONE 'UTC' + {1}, 'YYYY-MM-DD')"
TO_DAY = "day < to_char(:{0}::timestamptz AT TIME ZONE 'UTC' + {1}, 'YYYY-MM-DD')"
BUCKETS_MAX = 750
DAYS_IN = {"day": 1, "week": 7, "month": 28}
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


def _zone(value: object) -> object:
    if value not in available_timezones():
        raise ValueError("must be the name of a time zone, such as Europe/Berlin")
    return value


class SeriesParameters(Parameters):
    """Which days, in which zone, in what buckets."""

    from_: Day = Field(alias="from", description="The first day.")
    to: Day = Field(description="The day after the last.")
    bucket: Literal["day", "week", "month"] = Field("day", description="Weeks begin on Mondays.")
    time_zone: Annotated[str, BeforeValidator(_zone)] = Field(
        "UTC", description="Where days begin and end.", examples=["Europe/Berlin"]
    )
    site_id: Id | None = None
    compare: Literal["none", "previous"] = Field(
        "none",
        description="`previous`: each bucket beside that of the period before, which is as many days long, or, of "
        "whole months in monthly buckets, as many months.",
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.to <= self.from_:
            raise ValueError("`to` must come after `from`")
        if (self.to - self.from_).days > BUCKETS_MAX * DAYS_IN[self.bucket]:
            raise ValueError(f"the range must not have more than {BUCKETS_MAX} buckets")
        return self


class DemandSeriesQuery(ComputedQuery):
    """What was ordered over time in the caller's time zone, gaps filled, beside the period before if asked."""

    route, projection, view = "dashboards/demand-series", DailyDemand, views.DemandSeries
    parameters, sql = SeriesParameters, "demand_series.sql"


class ByStatusList(ListQuery):
    """How many orders have each status now; a status that no order has is left out."""

    route, projection, view, table = "dashboards/by-status", OrderFunnel, views.StatusCount, "statuses"
    sorts = {"status": ("status",)}  # a declaration, like the names beside it
