"""`GET /v1/recalls` and `/v1/recalls/{recall_id}`."""

from projectors.supply.recalls import Recalls
from query_api.query import DocumentQuery, ListQuery
from schemas.supply import views


class RecallList(ListQuery):
    """Every recall, by id."""

    route, projection, view = "recalls", Recalls, views.Recall
    sorts = {"recall_id": ("recall_id",)}  # a declaration, like the names beside it


class RecallDocument(DocumentQuery):
    """One recall: what it holds, whom it concerns, what became of it."""

    route, projection, view = "recalls/{recall_id}", Recalls, views.Recall
