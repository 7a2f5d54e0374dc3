"""Tests of projections and of queries that answer one of their rows: what events make of the rows."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from infra.testing.log import TENANT, DeciderLike, Fact, Log, Moment, Past, StreamAt


class ProjectionLike(Protocol):
    """What is tested as a projection."""

    @property
    def tables(self) -> Any: ...

    @property
    def fold(self) -> Any: ...


class QueryLike(Protocol):
    """What is tested as a query."""

    @property
    def projection(self) -> Any: ...

    @property
    def path_names(self) -> Any: ...

    @property
    def view(self) -> Any: ...


class GivenRows:
    """A projection and the rows that follow from what has happened."""

    def __init__(
        self,
        projection: ProjectionLike,
        facts: Iterable[Fact],
        deciders: Iterable[DeciderLike],
        moment: Moment,
    ) -> None:
        self._projection, self._moment = projection, moment
        self._log = Log(deciders)
        self._past = Past(self._log)
        self._folded = 0
        self.rows: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._add(facts, moment)

    def _add(self, facts: Iterable[Fact], moment: Moment) -> None:
        self._past.add(facts, moment)
        self._past.refuse_bare()
        for recorded in self._log.events[self._folded :]:
            self._folded += 1
            stream = StreamAt(
                TENANT,
                recorded.stream,
                recorded.version,
                self._folded,
                f"event-{self._folded}",
                recorded.moment.now,
                recorded.moment.occurred_at,
            )
            self._projection.fold(self.rows, recorded.event, stream)

    def when(self, *facts: Fact, occurred_at: datetime | None = None) -> "GivenRows":
        """Fold further facts."""
        self._add(facts, Moment(self._moment.now, occurred_at or self._moment.occurred_at))
        return self

    def row(self, *key: str, table: str = "rows") -> Any:
        """Return a row; None where there is none."""
        return self.rows.get((table, key))

    def then(self, *expected: Any, table: str = "rows") -> "GivenRows":
        """Check that a table has just these rows, by key."""
        rows = [
            row
            for (name, _), row in sorted(self.rows.items(), key=lambda entry: entry[0])
            if name == table and row is not None
        ]
        assert rows == list(expected), f"the rows are {rows}, not {list(expected)}"
        return self

    def then_row(self, *key: str, table: str = "rows", **expected: Any) -> "GivenRows":
        """Check that a row has these values, as its document or else its attributes say."""
        row = self.row(*key, table=table)
        assert row is not None, f"there is no row {key} in {sorted(self.rows)}"
        document = json.loads(row.encode())
        said = {name: document.get(name, getattr(row, name, None)) for name in expected}
        assert said == expected, f"the row says {said}, not {expected}"
        return self

    def then_no_row(self, *key: str, table: str = "rows") -> "GivenRows":
        """Check that there is no row with the key."""
        assert self.row(*key, table=table) is None, f"there is a row {key}"
        return self


class GivenQuery:
    """A query of one document, and the rows that follow from what has happened."""

    def __init__(
        self, query: QueryLike, facts: Iterable[Fact], deciders: Iterable[DeciderLike], moment: Moment
    ) -> None:
        if not hasattr(query, "table") or hasattr(query, "source"):
            raise TypeError(f"{query!r} is answered by SQL: test it on a database")
        self._query: Any = query
        self._rows = GivenRows(query.projection(), facts, deciders, moment)

    def when(self, **path: str) -> "Answered":
        """Ask for a document, by the path's parameters."""
        row = self._rows.row(*(path[name] for name in self._query.path_names), table=self._query.table)
        return Answered(None if row is None else json.loads(row.encode()), self._query.view)


class Answered(NamedTuple):
    """What a query answered."""

    document: dict[str, Any] | None
    view: Any

    def then(self, **expected: Any) -> "Answered":
        """Check that the document has these values, and is what the view says."""
        assert self.document is not None, "not found"
        self.view.model_validate_json(json.dumps(self.document))
        said = {name: self.document.get(name) for name in expected}
        assert said == expected, f"the document says {said}, not {expected}"
        return self

    def then_not_found(self) -> "Answered":
        """Check that there is no such document."""
        assert self.document is None, f"found {self.document}"
        return self
