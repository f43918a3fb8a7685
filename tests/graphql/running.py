"""A plan carried out as the endpoint does it."""

from collections.abc import Mapping

from graphql import ExecutionResult

from api.graphql.plans import Plan, Ready


async def run(
    plan: Plan, variables: Mapping[str, object] | None, context: object
) -> ExecutionResult:
    ready = plan.ready(variables)
    return await ready.run(context) if isinstance(ready, Ready) else ExecutionResult(None, ready)
