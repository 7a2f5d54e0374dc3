"""`GET /v1/orders` and `/v1/orders/{order_id}`."""

from pydantic import Field

from projectors.supply.orders import Orders
from query_api.parameters import Moment, PageParameters
from query_api.query import DocumentQuery, ListQuery, Walk
from schemas.messages import Id
from schemas.supply import views
from schemas.supply.quantities import OrderStatus


class OrderFilters(PageParameters):
    """Which orders are asked for."""

    status: tuple[OrderStatus, ...] = Field((), description="Any of these.")
    customer_id: Id | None = None
    site_id: Id | None = Field(None, description="The site that supplies.")
    item_id: Id | None = Field(None, description="Orders with a line of this item.")
    ordered_from: Moment | None = None
    ordered_to: Moment | None = Field(None, description="Before this.")


BY_TIME = ("-ordered_at", "ordered_at")


class OrderList(ListQuery):
    """Orders, latest first unless `sort` says otherwise; those of one time by id."""

    route, projection, view, parameters = "orders", Orders, views.Order, OrderFilters
    each = "status"
    filters = {  # a declaration, like the names beside it
        "status": "status = each.value",
        "customer_id": "customer_id = :customer_id::text",
        "site_id": "site_id = :site_id::text",
        "item_id": "order_id IN (SELECT ordered.order_id FROM {orders}.items AS ordered"
        " WHERE ordered.tenant = :tenant AND ordered.item_id = :item_id::text)",
        "ordered_from": "ordered_at >= :ordered_from::timestamptz",
        "ordered_to": "ordered_at < :ordered_to::timestamptz",
    }
    walks = {  # no other filter: of few orders of a status, say, most of the item's would be walked past
        "item_id": Walk("orders_of_item.sql", since=2, sorts=BY_TIME, beside=("ordered_from", "ordered_to"))
    }
    sorts = {
        "-ordered_at": ("ordered_at DESC", "order_id"),
        "ordered_at": ("ordered_at", "order_id"),
        "order_id": ("order_id",),
    }


class OrderDocument(DocumentQuery):
    """One order."""

    route, projection, view, stream = "orders/{order_id}", Orders, views.Order, "orders/{order_id}"
