"""The read models: events in, rows out. A domain's projections import `Projection` and `when` from here."""

from projectors.projection import Projection, Row, Stream, when

__all__ = ["Projection", "Row", "Stream", "when"]
