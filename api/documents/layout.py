"""Which directories hold which collection, and where a new document goes."""

import json
from dataclasses import dataclass
from datetime import date

from api.documents.errors import InvalidPath
from api.documents.model import Collection
from api.documents.paths import check_directory
from api.documents.slugs import slug

MAX_SLUG = 60  # characters


@dataclass(frozen=True, slots=True)
class Layout:
    """The directories of each collection; `""` or `"."` is the root of the repository.

    Raises ValueError for an unsafe directory, for one that two collections claim, and for
    a collection without any: new documents need a place.
    """

    sessions: tuple[str, ...]
    projects: tuple[str, ...]
    priorities: tuple[str, ...]

    def __post_init__(self) -> None:
        owners: dict[str, Collection] = {}
        for collection in Collection:
            directories = tuple(
                dict.fromkeys(_directory(raw) for raw in self.directories_of(collection))
            )
            if not directories:
                raise ValueError(f"The collection {collection} needs at least one directory.")
            for directory in directories:
                owner = owners.setdefault(directory, collection)
                if owner is not collection:
                    raise ValueError(
                        f"The directory `{directory}` cannot hold both {owner} and {collection}."
                    )
            object.__setattr__(self, collection.value, directories)

    def directories_of(self, collection: Collection) -> tuple[str, ...]:
        match collection:
            case Collection.SESSIONS:
                return self.sessions
            case Collection.PROJECTS:
                return self.projects
            case Collection.PRIORITIES:
                return self.priorities

    def collection_of(self, path: str) -> Collection | None:
        """The collection whose directory is the longest prefix of the path in whole segments."""
        if not path.endswith(".md"):
            return None
        covering = [
            (len(directory), collection)
            for collection in Collection
            for directory in self.directories_of(collection)
            if _covers(directory, path)
        ]
        return max(covering)[1] if covering else None

    @property
    def roots(self) -> tuple[str, ...]:
        """The topmost directories, sorted: together they hold every document."""
        everything = {d for collection in Collection for d in self.directories_of(collection)}
        return tuple(
            sorted(
                directory
                for directory in everything
                if not any(other != directory and _covers(other, directory) for other in everything)
            )
        )

    @property
    def fingerprint(self) -> str:
        """A text that changes exactly when a file could belong to another collection than before.

        The order of directories decides only where new documents go, so it does not count.
        """
        return json.dumps({c.value: sorted(self.directories_of(c)) for c in Collection})

    def new_path(self, collection: Collection, title: str, on: date) -> str:
        """Where a new document goes: below the first directory of its collection."""
        name = slug(title, MAX_SLUG) or "untitled"
        day = on.isoformat()[:10]
        if collection is Collection.SESSIONS:
            name = f"{day[:4]}/{day[5:7]}/autosave_{day}_{name}"
        directory = self.directories_of(collection)[0]
        return f"{directory}/{name}.md" if directory else f"{name}.md"


def _directory(raw: str) -> str:
    if raw in {"", "."}:
        return ""
    try:
        return check_directory(raw.removesuffix("/"))
    except InvalidPath as error:
        raise ValueError(f"`{raw}` cannot be a directory of documents. {error}") from error


def _covers(directory: str, path: str) -> bool:
    return not directory or path.startswith(directory + "/")
