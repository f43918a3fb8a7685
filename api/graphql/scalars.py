"""Scalars that refuse what they are not, instead of guessing."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import NewType

from graphql import GraphQLError, GraphQLFloat
from strawberry import scalar
from strawberry.types.scalar import ScalarDefinition

from api.gateway.provenance import Age

GitObjectID = NewType("GitObjectID", str)


def _read_oid(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{40}", value):
        raise GraphQLError("A GitObjectID has 40 lower-case hex digits.")
    return value


def _read_moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise GraphQLError("A DateTime is ISO 8601 with an offset, such as 2026-02-28T18:30:00Z.")


def _write_moment(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


def _read_date(value: object) -> date:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        with suppress(ValueError):
            return date.fromisoformat(value)
    raise GraphQLError("A Date is written as 2026-02-28.")


def _write_float(value: object) -> object:
    """As ever, but that an age stays one: whoever writes the answer down may tell it anew."""
    return value if isinstance(value, Age) else _write_plain_float(value)


# No other scalar may be called Float, and a strawberry schema takes this one from graphql-core.
_write_plain_float = GraphQLFloat.coerce_output_value
GraphQLFloat.coerce_output_value = _write_float

SCALARS: Mapping[object, ScalarDefinition] = {
    GitObjectID: scalar(
        name="GitObjectID",
        description="A Git object's hash: 40 lower-case hex digits.",
        serialize=str,
        parse_value=_read_oid,
    ),
    datetime: scalar(
        name="DateTime",
        description="A moment: ISO 8601 with an offset.",
        serialize=_write_moment,
        parse_value=_read_moment,
    ),
    date: scalar(
        name="Date",
        description="A day: ISO 8601, as 2026-02-28.",
        serialize=date.isoformat,
        parse_value=_read_date,
    ),
}
