"""Running one operation, and putting its outcome into the shape GitHub gives it."""

import inspect
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLInputType,
    GraphQLSchema,
    OperationDefinitionNode,
    execute,
    type_from_ast,
)
from graphql.utilities import validate_input_value

from sandbox.github import catalogue
from sandbox.github.call import Call
from sandbox.github.catalogue import GitHubError
from sandbox.github.documents import Json, error_json
from sandbox.github.mutations import MutationRoot
from sandbox.github.queries import QueryRoot

log = logging.getLogger(__name__)


class Root(QueryRoot, MutationRoot):
    """The source of root fields, whatever the operation."""


_ROOT = Root()


def _type_of(value: object, *_: object) -> str | None:
    return getattr(value, "type_name", None)


async def run(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: OperationDefinitionNode,
    variables: Mapping[str, object],
    call: Call,
) -> Json:
    """The body of the answer."""
    outcome = execute(
        schema,
        document,
        root_value=_ROOT,
        context_value=call,
        variable_values=dict(variables),
        operation_name=operation.name.value if operation.name else None,
        type_resolver=_type_of,
        hide_suggestions=True,
    )
    result = await outcome if inspect.isawaitable(outcome) else outcome
    if result.data is None and result.errors and all(e.path is None for e in result.errors):
        return {"errors": _variable_errors(schema, operation, variables, result)}
    body: Json = {"data": result.data}
    errors = [_execution_error(error, call) for error in result.errors or ()]
    errors += _errors_beside(call, result, operation)
    if errors:
        body["errors"] = errors
    return body


def _execution_error(error: GraphQLError, call: Call) -> Json:
    cause = error.original_error
    locations = [{"line": at.line, "column": at.column} for at in error.locations or ()]
    if not isinstance(cause, GitHubError):
        if cause is not None:
            log.error("a resolver of the stand-in failed", exc_info=cause)
        cause = something_wrong(call.request_id)
    shape = error_json(cause)
    message = shape.pop("message")
    return {**shape, "path": list(error.path or ()), "locations": locations, "message": message}


def _errors_beside(
    call: Call, result: ExecutionResult, operation: OperationDefinitionNode
) -> list[Json]:
    """The `partial` fault: an error below a commit that landed nevertheless."""
    landed = [
        key for key, value in (result.data or {}).items() if isinstance(value, dict) and value
    ]
    if not landed or operation.operation.value != "mutation" or result.errors:
        return []
    if call.draw.take("partial") is None:
        return []
    shape = error_json(catalogue.SIGNER_FORBIDDEN.error())
    message = shape.pop("message")
    path = [landed[0], "commit", "signature", "signer"]
    return [{**shape, "path": path, "locations": [{"line": 1, "column": 1}], "message": message}]


def something_wrong(request_id: str) -> GitHubError:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return catalogue.SOMETHING_WENT_WRONG.error(time=now, id=request_id)


# --- variables ------------------------------------------------------------------------------


def _variable_errors(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    variables: Mapping[str, object],
    result: ExecutionResult,
) -> list[Json]:
    """What was wrong with the variables, said as GitHub says it."""
    errors: list[Json] = []
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        type_ = type_from_ast(schema, definition.type)
        if type_ is None or (name not in variables and definition.default_value is not None):
            continue
        problems = _problems(variables.get(name), type_)  # type: ignore[arg-type]
        if problems:
            start = definition.loc.start_token if definition.loc else None
            at: list[Json] = [{"line": start.line, "column": start.column}] if start else []
            errors.append(_variable_error(name, str(type_), variables.get(name), problems, at))
    return errors or [{"message": error.message} for error in result.errors or ()]


def _problems(value: object, type_: GraphQLInputType) -> list[tuple[list[object], str]]:
    problems: list[tuple[list[object], str]] = []

    def on_error(error: GraphQLError, path: list[str | int]) -> None:
        text = error.message
        at: list[object] = list(path)
        if "required field '" in text:
            at.append(text.split("required field '")[1].split("'")[0])
            text = "Expected value to not be null"
        elif "unknown field '" in text:
            at.append(text.split("unknown field '")[1].split("'")[0])
            text = f"Field is not defined on {text.split(chr(39))[1]}"
        elif "not to be None" in text or "non-null type" in text:
            text = "Expected value to not be null"
        problems.append((at, text))

    validate_input_value(value, type_, on_error, hide_suggestions=True)
    return problems


def _variable_error(
    name: str,
    type_: str,
    value: object,
    problems: list[tuple[list[object], str]],
    locations: list[Json],
) -> Json:
    described = ", ".join(
        f"{'.'.join(map(str, path))} ({text})" if path else text for path, text in problems
    )
    message = f"Variable ${name} of type {type_} was provided invalid value"
    if any(path for path, _ in problems):
        message += f" for {described}"
    return {
        "extensions": {
            "value": value,
            "problems": [{"path": path, "explanation": text} for path, text in problems],
        },
        "locations": locations,
        "message": message,
    }
