"""
Answers questions from the read models. What a domain imports to declare its queries stands here.
"""

from query_api.parameters import Moment, Parameters
from query_api.query import ComputedQuery, DocumentQuery, ListQuery, Query

__all__ = ["ComputedQuery", "DocumentQuery", "ListQuery", "Moment", "Parameters", "Query"]
