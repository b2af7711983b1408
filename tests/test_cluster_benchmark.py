"""The comparison of Ray and the plain run prints what it timed."""

import pytest
from click.testing import CliRunner

from benchmarks.cluster import main

pytest.importorskip("ray.data", reason="Ray is an extra")


def test_a_row_for_the_plain_run_that_adds_up():
    result = CliRunner().invoke(main, ["--few", "1", "--many", "3", "--actors", "1"], catch_exceptions=False)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in result.stdout.splitlines()[3:]]
    assert [row[0] for row in rows] == ["plain", "Ray, actors 1"]
    for _, short, long, each, rest in rows:
        assert float(short) > 0
        assert float(each) / 1e3 == pytest.approx((float(long) - float(short)) / 2, abs=0.1)
        assert float(rest) == pytest.approx(float(short) - float(each) / 1e3, abs=0.1)
