"""A schema whose resolvers do all that resolvers may do wrong, at once or later."""

import asyncio
from collections.abc import AsyncIterator, Generator
from datetime import datetime
from enum import Enum
from random import Random
from typing import Annotated, Any, NewType

import strawberry
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig
from strawberry.types import Info

from tests.graphql.questions import Value

Grumpy = NewType("Grumpy", str)


class Boom(Exception):
    """What resolvers raise."""


class Later:
    """An awaitable that is neither a coroutine nor a future."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, object]:
        yield from asyncio.sleep(0).__await__()
        return self.value


async def _told_later(value: object) -> object:
    await asyncio.sleep(0)
    return value


@strawberry.enum
class How(Enum):
    """How a resolver gives its value."""

    WELL = "WELL"
    NULL = "NULL"
    RAISES = "RAISES"
    RETURNS_ERROR = "RETURNS_ERROR"
    WRONG = "WRONG"
    LATE = "LATE"
    LATE_NULL = "LATE_NULL"
    LATE_RAISES = "LATE_RAISES"
    LATER_RAISES = "LATER_RAISES"
    LATER = "LATER"


@strawberry.enum
class Kind(Enum):
    """Which value a resolver gives."""

    LEAF = "LEAF"
    BRANCH = "BRANCH"
    ODD_LEAF = "ODD_LEAF"
    STRANGE = "STRANGE"


@strawberry.enum
class Colour(Enum):
    RED = "red"
    GREEN = "green"


def given(how: How, value: Any) -> Any:
    """A value, an error or null, or an awaitable of one of these."""
    match how:
        case How.WELL:
            return value
        case How.NULL:
            return None
        case How.RAISES:
            raise Boom("at once")
        case How.RETURNS_ERROR:
            return Boom("returned")
        case How.WRONG:
            return object()
        case How.LATER:
            return Later(value)
    return _late(how, value)


async def _late(how: How, value: object) -> object:
    await asyncio.sleep(0)
    match how:
        case How.LATE_NULL:
            return None
        case How.LATE_RAISES:
            raise Boom("late")
        case How.LATER_RAISES:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            raise Boom("later")
    return value


def each_given(each: list[How], value: Any) -> list[Any]:
    """One value each; what is raised is in the list."""
    return [Boom("in the list") if how is How.RAISES else given(how, value) for how in each]


@strawberry.interface
class Thing:
    name: str
    label: str | None

    @strawberry.field
    def told(self, how: How) -> str | None:
        return given(how, "told")  # type: ignore[no-any-return]

    @strawberry.field
    def must(self, how: How) -> str:
        return given(how, "must")  # type: ignore[no-any-return]

    @strawberry.field
    async def may(self, how: How, kind: Kind) -> "Thing | None":
        return await _awaited(given(how, value(kind)))  # type: ignore[no-any-return]

    @strawberry.field
    async def is_there(self, how: How, kind: Kind) -> "Thing":
        return await _awaited(given(how, value(kind)))  # type: ignore[no-any-return]

    @strawberry.field
    def all_there(self, each: list[How], kind: Kind) -> list["Thing"]:
        return each_given(each, value(kind))

    @strawberry.field
    async def some_there(self, each: list[How], kind: Kind) -> list["Thing | None"] | None:
        return each_given(each, value(kind))


@strawberry.type
class Leaf(Thing):
    size: int
    weight: float | None
    colour: Colour | None
    at: datetime | None
    grumpy: Grumpy | None
    grumpier: Grumpy
    anything: JSON
    sizes: list[int | None] | None
    marks: list[str]
    more_marks: list[bool | None] | None


@strawberry.type
class Branch(Thing):
    first: Leaf | None

    @strawberry.field
    def leaf(self, how: How, kind: Kind) -> Leaf:
        return given(how, value(kind))  # type: ignore[no-any-return]

    @strawberry.field
    def either(self, how: How, kind: Kind) -> "Either | None":
        return given(how, value(kind))  # type: ignore[no-any-return]


Either = Annotated[Leaf | Branch, strawberry.union("Either")]


@strawberry.interface
class Judged:
    """Its objects are asked what they are, and it takes a moment."""

    verdict: str | None

    @classmethod
    async def resolve_type(cls, value: Any, *_: object) -> Any:
        await asyncio.sleep(0)
        if value.verdict == "boom":
            raise Boom("not to be judged")
        return value.verdict


@strawberry.type
class Good(Judged):
    @classmethod
    async def is_type_of(cls, value: Any, _info: Info) -> bool:
        await asyncio.sleep(0)
        return bool(value.good)


@strawberry.type
class Bad(Judged):
    @classmethod
    def is_type_of(cls, value: Any, info: Info) -> bool:
        return (not value.good and info.path.key == "bad") or not value.good


class Judgeable:
    def __init__(self, verdict: Any, *, good: bool) -> None:
        self.verdict = verdict
        self.good = good


def value(kind: Kind) -> Any:
    match kind:
        case Kind.LEAF:
            return Leaf(
                name="leaf",
                label=None,
                size=2**31 - 1,
                weight=0.5,
                colour=Colour.GREEN,
                at=datetime(2026, 11, 27),  # noqa: DTZ001
                grumpy=Grumpy("boom"),
                grumpier=Grumpy("late"),
                anything=JSON({"a": [1, None]}),
                sizes=[1, None],
                marks=["a", "b"],
                more_marks=[True, None],
            )
        case Kind.BRANCH:
            return Branch(name="branch", label="a branch", first=value(Kind.ODD_LEAF))
        case Kind.ODD_LEAF:
            odd: Any = object.__new__(Leaf)  # without a label
            odd.name = Later("a name")
            odd.size = 2**31
            odd.weight = float("nan")
            odd.colour = "no colour"
            odd.at = Boom("an error for a value")
            odd.grumpy = "null"
            odd.grumpier = Later("late")
            odd.anything = None
            odd.sizes = [Later(1), "2", "two", [3], 4.0]
            odd.marks = ("a", 5, Later("late"))
            odd.more_marks = "not a list"
            return odd
        case Kind.STRANGE:
            return "a text"


async def _awaited(found: Any) -> Any:
    return await found if hasattr(found, "__await__") else found


def _write_grumpy(value: object) -> object:
    """A scalar that cannot be written, or turns out to be nothing, or takes its time."""
    match value:
        case "boom":
            raise Boom("cannot be written")
        case "null":
            return None
        case "late":
            return _told_later("written late")
    return value


@strawberry.input
class Wishes:
    text: str = "none"
    number: int | None = None
    many: list[int | None] | None = None
    more: "Wishes | None" = None
    free: JSON | None = None
    how: How = How.WELL


@strawberry.type
class Query:
    @strawberry.field
    def thing(self, how: How, kind: Kind) -> Thing | None:
        return given(how, value(kind))  # type: ignore[no-any-return]

    @strawberry.field
    async def is_there(self, how: How, kind: Kind) -> Thing:
        return await _awaited(given(how, value(kind)))  # type: ignore[no-any-return]

    @strawberry.field
    def leaf(self, how: How, kind: Kind) -> Leaf | None:
        return given(how, value(kind))  # type: ignore[no-any-return]

    @strawberry.field
    async def branch(self) -> Branch:
        return value(Kind.BRANCH)  # type: ignore[no-any-return]

    @strawberry.field
    def either(self, how: How, kind: Kind) -> Either | None:
        return given(how, value(kind))  # type: ignore[no-any-return]

    @strawberry.field
    def judged(self, verdict: JSON | None, good: bool) -> Judged | None:
        found: Any = Judgeable(verdict, good=good)
        return found  # type: ignore[no-any-return]

    @strawberry.field
    def streamed(self, each: list[How]) -> list[str | None] | None:
        async def stream() -> AsyncIterator[Any]:
            for how in each:
                await asyncio.sleep(0)
                if how is How.RAISES:
                    raise Boom("in the stream")
                yield Boom("streamed") if how is How.RETURNS_ERROR else f"{how}"

        return stream()  # type: ignore[return-value]

    @strawberry.field
    def listed(self, how: How, kind: Kind) -> list[Thing | None] | None:
        """Which may be no list at all."""
        return given(how, value(kind))  # type: ignore[no-any-return]

    @strawberry.field
    def leaves(self, each: list[How], kind: Kind) -> list[Leaf | None] | None:
        return each_given(each, value(kind))

    @strawberry.field
    def leaves_there(self, kind: Kind) -> list[Leaf]:
        """Of one kind, and of another class, as ours are."""
        own: Any = type("OwnLeaf", (Leaf,), {"name": property(lambda _: "own")})
        late: Any = type("LateLeaf", (Leaf,), {"__await__": Later(value(kind)).__await__})
        ours = value(Kind.LEAF)
        found = [value(kind), own.__new__(own), late.__new__(late)]
        found[1].__dict__ |= {key: ours.__dict__[key] for key in ours.__dict__ if key != "name"}
        found[2].__dict__ |= ours.__dict__ | {"name": "not to be read"}
        return found

    @strawberry.field
    def nested(self, rows: list[list[How]]) -> list[list[str] | None] | None:
        return [each_given(inner, "x") for inner in rows]

    @strawberry.field
    def echo(  # noqa: PLR0917 - GraphQL's arguments are passed by name
        self,
        info: Info,
        wishes: Wishes,
        number: int = 3,
        many: list[int] | None = None,
        free: JSON | None = None,
        more: list[Wishes] | None = None,
    ) -> str:
        """What was asked; and as rude as it can be to what it was given."""
        selected = [getattr(field, "name", None) for field in info.selected_fields]
        said = (
            f"{info.path.as_list()} {wishes} {number} {many} {free} {more} "
            f"{sorted(info.variable_values)} {selected}"
        )
        for mine in (many, free, wishes.many, wishes.free):
            if isinstance(mine, list):
                mine.append(666)
            elif isinstance(mine, dict):
                mine["rude"] = True
        return said


schema = strawberry.Schema(
    Query,
    types=[Leaf, Branch, Good, Bad],
    config=StrawberryConfig(
        scalar_map={Grumpy: strawberry.scalar(name="Grumpy", serialize=_write_grumpy)}
    ),
)


def _json(random: Random) -> object:
    match random.randint(0, 7):
        case 0:
            return [_json(random), _json(random)]
        case 1:
            return {"a": _json(random)}
    return random.choice([None, 7, "x", "Good", True])


def _wishes(random: Random) -> object:
    wishes: dict[str, Value] = {
        "text": lambda _: "a",
        "number": lambda random: random.choice([None, 4]),
        "many": lambda random: random.choice([[], [None, 5], 6]),
        "more": _wishes,
        "free": _json,
        "how": _how,
    }
    return {name: wish(random) for name, wish in wishes.items() if random.random() < 0.3}


def _how(random: Random) -> object:
    return random.choice([How.WELL, How.WELL, How.LATE, *How]).name


def _some(one: Value) -> Value:
    return lambda random: [one(random) for _ in range(random.randint(0, 3))]


def _how_at_once(random: Random) -> object:
    return random.choice([How.WELL, How.NULL, How.RAISES, How.RETURNS_ERROR, How.WRONG]).name


VALUES: dict[str, Value] = {
    "How": _how,
    "each": _some(_how),
    "rows": _some(_some(_how)),
    "Kind": lambda random: random.choice([Kind.LEAF, Kind.BRANCH, *Kind]).name,
    "verdict": lambda random: random.choice(
        ["Good", "Bad", "Good", "Bad", "Leaf", "Judged", "Nobody", "boom", None, 5]
    ),
    "good": lambda random: random.choice([True, False]),
    "Wishes": _wishes,
    "Int": lambda random: random.randint(-9, 9),
    "many": _some(lambda random: random.randint(-9, 9)),
    "JSON": _json,
    "more": _some(_wishes),
}
AT_ONCE: dict[str, Value] = {
    "How": _how_at_once,
    "each": _some(_how_at_once),
    "rows": _some(_some(_how_at_once)),
}
