"""
What a query is: a declaration, from which its route, its API document, its SQL, paging and caching are made.

A domain's query is a class in a module of its own under `query_api/<domain>/`. Three kinds: `DocumentQuery` (one
row by its key), `ListQuery` (many, a page at a time) and `ComputedQuery` (one object that SQL makes). SQL names
parameters as `:name`, the caller's tenant as `:tenant`, and the tables of a projection's live generation as
`{stock_levels}.rows`. What is served are the bytes of a column `doc`, unopened; so the SQL of lists and of
computed queries returns a column `doc` of type bytea, json or text that holds JSON.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from importlib import import_module, resources
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, create_model

from infra.documents import DOCUMENT_SECONDS
from projectors.projection import Projection
from query_api.parameters import PageParameters, Parameters
from schemas.errors import BadDefinition
from schemas.messages import View

ANY_ROLE = ""
AUDITOR = "auditor"
PAGE_SECONDS = 60

_PATH_NAMES = re.compile(r"{(\w+)}")


class Query:
    """
    A question about a tenant's read models: `GET /v1/{route}`.

    `permission` is the role that may ask (`admin` always may); empty: any role of the tenant. The class's
    docstring says in the API document what is answered, and `view` what an item or the answer looks like.
    """

    abstract: ClassVar[bool] = True
    route: ClassVar[str]
    view: ClassVar[type[View]]
    permission: ClassVar[str] = ANY_ROLE
    cache_seconds: ClassVar[int] = PAGE_SECONDS
    """How long an answer that was read from the tables is kept for others; 0: it is always read. It is never older for
    it: what it depends on is part of its key, or of its value."""
    parameters: ClassVar[type[Parameters]] = Parameters
    reads: ClassVar[tuple[type[Projection[Any]], ...]]
    """The projections that the answer is made of; of `projection` alone unless given."""
    projection: ClassVar[type[Projection[Any]]]
    name: ClassVar[str]
    """Of the class, as metrics and spans know it."""
    path_names: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.abstract = "route" not in vars(cls)
        if cls.abstract:
            return
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()
        cls.path_names = tuple(_PATH_NAMES.findall(cls.route))
        if "reads" not in vars(cls):
            cls.reads = (cls.projection,)
        if not getattr(cls, "view", None):
            raise cls.bad("has no view")
        if cls.cache_seconds < 0:
            raise cls.bad("cache_seconds cannot be negative")
        cls.check()

    @classmethod
    def check(cls) -> None:
        """Refuse, at import, a declaration that could not work."""

    @classmethod
    def bad(cls, problem: str) -> BadDefinition:
        """Return what is wrong with the declaration."""
        return BadDefinition(f"query {cls.__name__}", problem)

    @classmethod
    def title(cls) -> str:
        """Return the docstring's first line."""
        return inspect.cleandoc(cls.__doc__ or cls.__name__).split("\n")[0]

    @classmethod
    def load(cls, sql: str) -> str:
        """Return a statement: the text itself, or the content of the `.sql` file beside the declaration."""
        if not sql.endswith(".sql"):
            return sql
        module = import_module(cls.__module__)
        package = cls.__module__ if hasattr(module, "__path__") else cls.__module__.rpartition(".")[0]
        return resources.files(package).joinpath(sql).read_text()


class DocumentQuery(Query):
    """
    One row of a projection by its key: the stored document, out of the cache where it can be.

    The path's parameters are the key's columns, in order. Where the row is made from one stream, `stream`
    names it (`"orders/{order_id}"`): then `?as_of=` answers as of a time or a position.
    """

    table: ClassVar[str] = "rows"
    stream: ClassVar[str | None] = None
    cache_seconds: ClassVar[int] = DOCUMENT_SECONDS

    @classmethod
    def check(cls) -> None:
        """Refuse a path that does not give the key."""
        key = cls.projection.tables[cls.table][1]
        if len(key) != len(cls.path_names):
            raise cls.bad(f"the path must have the key's {len(key)} columns: {', '.join(key)}")

    @classmethod
    def is_cached(cls) -> bool:
        """Whether the projector writes the rows through to the cache, and they are looked for there."""
        return cls.projection.document == cls.table and cls.cache_seconds > 0

    @classmethod
    def stream_of(cls, path: Mapping[str, str]) -> str | None:
        """Return the stream that a document is made from."""
        return cls.stream.format(**path) if cls.stream else None


class Walk(NamedTuple):
    """A SELECT that reads a page of a list along another table's index, which has the filter and the page's order."""

    sql: str
    since: int
    """The version of the projection whose tables have the index first."""
    sorts: tuple[str, ...]
    """The orders that it has."""
    beside: tuple[str, ...] = ()
    """The other filters that may be given: they hold for its result."""


class ListQuery(Query):
    """
    Many documents, a page at a time: `{"items": […], "next": …}`.

    `filters` gives the condition that each parameter adds when it is given: `{"status": "status = ANY(:status)"}`.
    `sorts` gives the columns of each order that `sort` may name, `DESC` after those that fall; the last ones
    must tell any two rows apart, none may be null, and the first order is the default. A list with one order
    has no `sort` parameter.

    Rows come from the projection's `table`, unless `sql` says otherwise: a SELECT (or the name of a `.sql` file
    beside the declaration) with the columns `doc` and those sorted by. It must ask for `:tenant` itself, and
    `{filters}` in it stands for the conditions; without that they hold for its result.

    `walks` gives, by a filter, another SELECT (as `sql`, without `{filters}`) that pages are read from where it serves:
    the filter is given, others only as it says, and the order is one of its own. It asks for the filter itself.
    Elsewhere the filter's condition holds as ever: in other orders, in a live generation of a former version, of rows
    by their keys.

    `each` names a repeated parameter whose values are looked up one by one and merged, so that each is read along
    its own index in the page's order; its filter compares with `each.value`.

    `frame` names a table of the projection with one row by the path's parameters (or a view in `table.sql`, with
    columns of these names): then the answer is that row's document with `items` and `next` as members of it, and
    a row that is not there is not found.
    """

    table: ClassVar[str] = "rows"
    each: ClassVar[str | None] = None
    filters: ClassVar[Mapping[str, str]] = {}
    sorts: ClassVar[Mapping[str, Sequence[str]]]
    sql: ClassVar[str] = ""
    walks: ClassVar[Mapping[str, Walk]] = {}
    frame: ClassVar[str | None] = None
    parameters: ClassVar[type[Parameters]] = PageParameters
    page_parameters: ClassVar[type[PageParameters]]
    """`parameters` with `limit`, `cursor` and `sort`."""
    source: ClassVar[str]

    @classmethod
    def check(cls) -> None:
        """Refuse filters without a parameter, and SQL that forgets the tenant."""
        if not getattr(cls, "sorts", None):
            raise cls.bad("a list needs an order: `sorts`")
        if unknown := set(cls.filters) - set(cls.parameters.model_fields) - set(cls.path_names):
            raise cls.bad(f"filters without a parameter: {', '.join(sorted(unknown))}")
        if unknown := set(cls.walks) - set(cls.filters):
            raise cls.bad(f"walks without a filter: {', '.join(sorted(unknown))}")
        if unknown := {sort for walk in cls.walks.values() for sort in walk.sorts} - set(cls.sorts):
            raise cls.bad(f"walks in orders that it does not have: {', '.join(sorted(unknown))}")
        cls.source = cls.load(cls.sql) if cls.sql else cls._table_sql()
        cls.walks = {name: walk._replace(sql=cls.load(walk.sql)) for name, walk in cls.walks.items()}
        for source in (cls.source, *(walk.sql for walk in cls.walks.values())):
            if not re.search(r":tenant\b", source):
                raise cls.bad("its SQL must ask for tenant = :tenant")
        cls.page_parameters = _with_page(cls)

    @classmethod
    def walk_of(cls, given: Sequence[str], sort: str, version: int) -> str | None:
        """Return the filter given whose walk serves a page, of a generation of this version."""
        filters = set(given) & set(cls.filters)
        return next(
            (
                name
                for name, walk in cls.walks.items()
                if name in filters
                and filters <= {name, *walk.beside}
                and sort in walk.sorts
                and version >= walk.since
            ),
            None,
        )

    @classmethod
    def _table_sql(cls) -> str:
        schema = cls.projection.name.replace("-", "_")
        return f"SELECT * FROM {{{schema}}}.{cls.table} WHERE tenant = :tenant AND {{filters}}"


class ComputedQuery(Query):
    """
    One object that SQL computes from read tables, such as a dashboard.

    `sql` is a SELECT (or the name of a `.sql` file beside the declaration) of one row with the column `doc`.
    Every parameter is bound, null where it is not given; no row is not found.
    """

    sql: ClassVar[str]
    source: ClassVar[str]

    @classmethod
    def check(cls) -> None:
        """Refuse SQL that forgets the tenant."""
        cls.source = cls.load(cls.sql)
        if not re.search(r":tenant\b", cls.source):
            raise cls.bad("its SQL must ask for tenant = :tenant")


def _with_page(query: type[ListQuery]) -> type[PageParameters]:
    """Return a list's own parameters together with those that every list has."""
    fields: dict[str, Any] = {}
    if len(query.sorts) > 1:
        names = tuple(query.sorts)
        fields["sort"] = (Literal[names], Field(names[0], description="The order of the items."))
    own: tuple[Any, ...] = () if query.parameters is PageParameters else (query.parameters,)
    bases = own if own and issubclass(query.parameters, PageParameters) else (*own, PageParameters)
    return create_model(f"{query.__name__}Parameters", __base__=bases, **fields)
