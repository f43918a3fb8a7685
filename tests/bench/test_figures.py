"""The arithmetic of the benchmark."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.figures import Bill, Spread, percentile, ratios


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_so_large_a_share_does_not_exceed_the_percentile(values: list[float], share: float) -> None:
    found = percentile(sorted(values), share)

    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_a_machine_that_slows_down_between_rounds_changes_no_ratio() -> None:
    assert ratios([50, 5, 500], [100, 10, 1000]) == Spread(0.5, 0.5, 0.5)


def test_the_median_ratio_is_told_with_its_extent() -> None:
    assert ratios([1, 3, 4], [2, 2, 2]) == Spread(median=1.5, least=0.5, most=2)


def test_a_month_costs_what_memory_and_cpu_cost() -> None:
    bill = Bill(resident=0.2e9, request=0.00432, idle=0.01, nightly=43.2)

    assert bill.memory_dollars == pytest.approx(2.0)
    # 43.2 s of requests and as much of the night are a thousandth of a day
    assert bill.cpus == pytest.approx(0.011)
    assert bill.dollars == pytest.approx(2.22)
