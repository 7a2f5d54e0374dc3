"""`GET /v1/items` and `/v1/items/{item_id}`."""

from projectors.supply.items import Items
from query_api.query import DocumentQuery, ListQuery
from schemas.supply import views


class ItemList(ListQuery):
    """Every item, by id."""

    route, projection, view = "items", Items, views.Item
    sorts = {"item_id": ("item_id",)}  # a declaration, like the names beside it


class ItemDocument(DocumentQuery):
    """One item."""

    route, projection, view, stream = "items/{item_id}", Items, views.Item, "items/{item_id}"
