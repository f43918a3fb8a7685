"""What a Markdown document is: reading, changing and naming it. Pure, without I/O."""

from api.documents.checking import check_markdown
from api.documents.editing import create, edit, rewrite
from api.documents.errors import InvalidDocument, InvalidPath
from api.documents.fields import FieldValue
from api.documents.layout import Layout
from api.documents.model import (
    AnyDocument,
    Collection,
    Document,
    Json,
    Priority,
    Project,
    Session,
    Unreadable,
)
from api.documents.oid import blob_oid
from api.documents.paths import check_path, directories_above, folded, is_in_the_way, path_in
from api.documents.plain_text import body_of, excerpt
from api.documents.projects import project_key, project_keys
from api.documents.reading import PARSER_VERSION, parse
from api.documents.requested import requested

__all__ = [
    "PARSER_VERSION",
    "AnyDocument",
    "Collection",
    "Document",
    "FieldValue",
    "InvalidDocument",
    "InvalidPath",
    "Json",
    "Layout",
    "Priority",
    "Project",
    "Session",
    "Unreadable",
    "blob_oid",
    "body_of",
    "check_markdown",
    "check_path",
    "create",
    "directories_above",
    "edit",
    "excerpt",
    "folded",
    "is_in_the_way",
    "parse",
    "path_in",
    "project_key",
    "project_keys",
    "requested",
    "rewrite",
]
