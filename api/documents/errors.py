"""What can be wrong with what a caller hands in. Each message says what to do about it."""


class InvalidDocument(ValueError):
    """A text that cannot become a document, or a change that cannot be made without harm."""


class InvalidPath(ValueError):
    """A path that no document may have. The message names the rule."""
