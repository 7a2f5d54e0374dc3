"""`GET /v1/sites` and `/v1/sites/{site_id}`."""

from projectors.supply.sites import Sites
from query_api.query import DocumentQuery, ListQuery
from schemas.supply import views


class SiteList(ListQuery):
    """Every site, by id."""

    route, projection, view = "sites", Sites, views.Site
    sorts = {"site_id": ("site_id",)}  # a declaration, like the names beside it


class SiteDocument(DocumentQuery):
    """One site."""

    route, projection, view, stream = "sites/{site_id}", Sites, views.Site, "sites/{site_id}"
