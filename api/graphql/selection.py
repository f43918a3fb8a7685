"""What is selected below a field: only that is read."""

from collections.abc import Iterable, Iterator

from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLResolveInfo,
    InlineFragmentNode,
    SelectionNode,
    SelectionSetNode,
)

from api.cache.rows import Columns
from api.graphql.context import Context, Info

_TEXTS = frozenset({"markdown", "body", "excerpt"})


def columns_under(info: Info) -> Columns:
    """What of documents is needed somewhere below this field, at most."""
    names = set(_names(info._raw_info, info._raw_info.field_nodes))  # noqa: SLF001
    return Columns(bodies=not _TEXTS.isdisjoint(names), metadata="metadata" in names)


def _names(info: GraphQLResolveInfo[Context], below: Iterable[SelectionNode]) -> Iterator[str]:
    """The names of all fields, whether or not directives will leave them out."""
    seen = set[str]()
    todo = list(below)
    while todo:
        node = todo.pop()
        if isinstance(node, FragmentSpreadNode):
            if node.name.value in seen:
                continue
            seen.add(node.name.value)
            below_it: SelectionSetNode | None = info.fragments[node.name.value].selection_set
        elif isinstance(node, FieldNode | InlineFragmentNode):
            below_it = node.selection_set
            if isinstance(node, FieldNode):
                yield node.name.value
        else:
            continue
        if below_it is not None:
            todo += below_it.selections
