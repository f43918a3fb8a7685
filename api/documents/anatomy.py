"""The parts of a text that carry metadata, each with its place."""

from dataclasses import dataclass

from api.documents.fields import HEADER_KEYS
from api.documents.front_matter import Entry, FrontMatter, read_front_matter
from api.documents.header_lines import HeaderLine, header_lines
from api.documents.headings import Heading, first_heading
from api.documents.model import Json

BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Anatomy:
    """All positions count characters of the text without BOM."""

    front_matter: FrontMatter | None
    heading: Heading | None
    header: tuple[HeaderLine, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.front_matter.entries if self.front_matter else ()

    @property
    def metadata(self) -> dict[str, Json]:
        """Front matter and header lines as found; of a key written twice, the first counts."""
        found: dict[str, Json] = {entry.key: entry.value for entry in self.entries}
        for line in self.header:
            found.setdefault(line.key, line.value)
        return found


def dissect(text: str) -> Anatomy:
    """The parts of a text without BOM. Raises InvalidDocument for broken front matter."""
    return _dissect(text, read_front_matter(text))


def without_front_matter(text: str) -> Anatomy:
    """The parts of a text in which what looks like front matter is none."""
    return _dissect(text, None)


def split_bom(text: str) -> tuple[str, str]:
    return (BOM, text[1:]) if text.startswith(BOM) else ("", text)


def _dissect(text: str, front_matter: FrontMatter | None) -> Anatomy:
    heading = first_heading(text, front_matter.end if front_matter else 0)
    header = header_lines(text, heading.after, HEADER_KEYS) if heading else ()
    return Anatomy(front_matter, heading, header)
