"""What callers are told when something cannot be done. Each has a code and says what to do."""

from api.documents import Json
from api.master import errors as master


class GatewayError(Exception):
    """A refusal. `details` go beside the code into the answer."""

    code = "INTERNAL"

    def __init__(self, message: str, **details: Json) -> None:
        super().__init__(message)
        self.details = {name: value for name, value in details.items() if value is not None}


class BadInput(GatewayError):
    """The input cannot be accepted as it is. Nothing was saved."""

    code = "BAD_INPUT"


class NotFound(GatewayError):
    """The document to be changed does not exist. Nothing was saved."""

    code = "NOT_FOUND"


class Conflict(GatewayError):
    """Another writer was first. Nothing was saved."""

    code = "CONFLICT"


class MasterUnavailable(GatewayError):
    """GitHub cannot be reached, and nothing else can give a true answer."""

    code = "MASTER_UNAVAILABLE"


class RateLimited(GatewayError):
    """GitHub asks to wait `retryAfter` seconds."""

    code = "RATE_LIMITED"


class OutcomeUnknown(GatewayError):
    """The write may or may not have been saved."""

    code = "OUTCOME_UNKNOWN"


class Forbidden(GatewayError):
    """GitHub does not let the gateway do this, or the caller's API key is not good for it."""

    code = "FORBIDDEN"


class LimitExceeded(GatewayError):
    """The request asks for more than a limit allows."""

    code = "LIMIT_EXCEEDED"


def of_read(error: master.MasterError) -> GatewayError:
    """What a failed read of the master means to the caller."""
    if isinstance(error, master.RateLimited):
        return RateLimited(str(error), retryAfter=error.retry_after)
    return MasterUnavailable(str(error))


def unknown(write_id: str) -> OutcomeUnknown:
    """It is not known whether a write was saved, and there is no time left to find out."""
    return OutcomeUnknown(
        f"GitHub did not say in time whether the write {write_id} was saved. Send it again with "
        "the idempotencyKey that it had; without one, look first for a commit with the line "
        f"Annoris-Write: {write_id}",
        writeId=write_id,
    )


def said_of_a_retry(error: GatewayError) -> GatewayError:
    """The same refusal, for a write with a key that could not be looked for.

    Of this try nothing was saved; of an earlier one nobody knows.
    """
    said = str(error).replace(
        "Nothing was saved.",
        "Nothing was saved now; whether an earlier try was saved is not known. Keep the "
        "idempotencyKey.",
    )
    return type(error)(said, **error.details)


def of_write(error: master.MasterError, write_id: str) -> GatewayError:
    """What a failed write to the master means to the caller."""
    match error:
        case master.OutcomeUnknown():
            return unknown(write_id)
        case master.HeadMoved():
            return MasterUnavailable(
                "Others kept committing to the branch. Nothing was saved. Try again."
            )
        case master.AccessRefused() | master.Protected():
            return Forbidden(f"{error} Nothing was saved.")
        case master.Rejected():
            return BadInput(f"{error} Nothing was saved.")
        case master.RateLimited():
            return RateLimited(f"{error} Nothing was saved.", retryAfter=error.retry_after)
        case _:
            return MasterUnavailable(f"{error} Nothing was saved.")
