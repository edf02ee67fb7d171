"""What the operator pages of both services ask with."""

from __future__ import annotations

from service_kit.web.schemas import IdField, ListQuerySchema, QueryIntegerField, StrictSchema

#: Rows of a table on a page.
PAGE_ROWS = 50
MAX_ROWS = 200
#: Entries of a timeline in one answer; the page asks again at once for what follows.
MAX_ENTRIES = 500
_MAX_NUMBER = 2**63 - 1


class TableQuerySchema(ListQuerySchema):
    """Which rows of a table to answer."""

    limit = QueryIntegerField(1, MAX_ROWS, load_default=PAGE_ROWS)


class OverviewQuerySchema(TableQuerySchema):
    """The same beside an overview, and the time of the last sample that is known, in milliseconds since 1970."""

    after = QueryIntegerField(0, _MAX_NUMBER, load_default=0)


class OrderQuerySchema(StrictSchema):
    """Which order to show, and the last number of its timeline that is known already."""

    id = IdField(required=True)
    after = QueryIntegerField(0, _MAX_NUMBER, load_default=0)


class OrderPageSchema(StrictSchema):
    """Which order's page to show."""

    id = IdField(required=True)
