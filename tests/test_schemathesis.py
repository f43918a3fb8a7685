"""Every query and every mutation as schemathesis makes them up from the schema."""

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from api.graphql.schema import schema
from tests.hostile import REFUSALS
from tests.system import System

schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = 25  # of each query; a mutation may be a commit, and those are paced
EXAMPLES_OF_A_MUTATION = 8
_TEXT = schemathesis.graphql.nodes.String
schemathesis.graphql.scalar("GitObjectID", st.from_regex("[0-9a-f]{40}", fullmatch=True).map(_TEXT))
OPERATIONS = {
    found.ok().label: found.ok()
    for found in schemathesis.graphql.from_dict(schema.introspect()).get_all_operations()
}


@pytest.mark.parametrize("label", OPERATIONS)
async def test_whatever_the_schema_allows_is_answered_or_refused(
    system: System,
    label: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.gateway.gateway.LAG_SECONDS", 0.0)  # for commits that nobody knows
    operation = OPERATIONS[label]
    most = EXAMPLES if label.startswith("Query.") else EXAMPLES_OF_A_MUTATION

    @settings(max_examples=most, phases=[Phase.generate, Phase.shrink])
    @given(case=operation.as_strategy())
    def holds(case: Any) -> None:
        answered = case.call(base_url=f"{system.url}/graphql")

        assert answered.status_code == 200  # its own checks take any refusal for a server's error
        assert answered.json().keys() <= {"data", "errors"}
        for error in answered.json().get("errors", []):
            assert error["extensions"]["code"] in REFUSALS

    await asyncio.to_thread(holds)

    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []
