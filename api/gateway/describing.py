"""What a commit says of a write, where the caller left that to us. Pure."""

import re
from collections.abc import Sequence

from api.gateway.changes import Delete, Rename, Update
from api.gateway.planning import Addition, Step, Write
from api.master.messages import Note

_BREAK = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # what ends or garbles a line


def note(write: Write, paths: Sequence[str | None]) -> Note:
    """The part of a commit message that belongs to a write. `paths`: where its steps went."""
    told = [
        (message or "").strip() or _described(step, path)
        for step, path, message in zip(write.steps, paths, write.messages, strict=True)
    ]
    message = (write.message or "").strip()
    if len(told) > 1:
        message = message or f"Change {len(told)} documents"
        message += "".join(f"\n\n{each}" if "\n" in each else f"\n{each}" for each in ["", *told])
    chosen = [
        path
        for step, path in zip(write.steps, paths, strict=True)
        if path and isinstance(step, Addition) and step.chosen
    ]
    return Note(
        write_id=write.id,
        message=message or told[0],
        key=write.key,
        chosen=tuple(chosen) if write.key else (),
        co_authors=tuple(write.co_authors),
        caller=write.caller,
    )


def _described(step: Step, path: str | None) -> str:
    match step:
        case Addition():
            said = f"Create {path or step.path}"
        case Delete():
            said = f"Delete {step.path}"
        case Rename():
            said = f"Rename {step.path} to {step.to}"
        case Update():
            parts = [*step.fields, *(["text"] if step.markdown is not None else [])]
            said = f"Update {step.path}" + (f": {', '.join(parts)}" if parts else "")
    return _BREAK.sub("\N{REPLACEMENT CHARACTER}", said)
