"""The pytest plugin: fixtures with clusters, and the logs of a cluster in the report of a test that fails.

pytest loads it in every test run where this package is installed, so it imports nothing else before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from ipython1.kernel.clients.multiengineclient import MultiEngineClient
    from ipython1.testing import InProcessCluster, TemporaryCluster

MARKER = "ipython1"
NUMBER = "ipython1_engines"
DEFAULT = "2"


class _Lent(NamedTuple):
    cluster: TemporaryCluster
    sizes: dict[str, int]


_LENT = pytest.StashKey[_Lent]()
_ENGINES = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(NUMBER, f"engines of the clusters of tests that do not say it ({DEFAULT})")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(engines=n, fresh=False): how many engines the cluster of this test has, and whether they are new "
        "processes",
    )
    text = str(config.getini(NUMBER) or DEFAULT)
    if not (text.isascii() and text.isdigit() and int(text)):
        raise pytest.UsageError(f"{NUMBER} must be a whole number of 1 or more, not {text!r}")
    config.stash[_ENGINES] = int(text)


class _Wanted(NamedTuple):
    engines: int
    fresh: bool


def _wanted(request: pytest.FixtureRequest) -> _Wanted:
    """What the test's marker says, or the ini file."""
    engines: Any = request.config.stash[_ENGINES]
    fresh: Any = False
    marker = request.node.get_closest_marker(MARKER)
    if marker is not None:
        known = {"engines": engines, "fresh": fresh, **marker.kwargs}
        engines, fresh = known.pop("engines"), known.pop("fresh")
        if marker.args or known:
            _refuse("takes engines=n and fresh=True, and nothing else")
        if isinstance(engines, bool) or not isinstance(engines, int) or engines < 1:
            _refuse(f"engines must be a whole number of 1 or more, not {engines!r}")
        if not isinstance(fresh, bool):
            _refuse(f"fresh must be True or False, not {fresh!r}")
    return _Wanted(engines, fresh)


def _refuse(reason: str) -> None:
    pytest.fail(f"@pytest.mark.{MARKER}: {reason}", pytrace=False)


@pytest.fixture
def ipython1_in_process(request: pytest.FixtureRequest) -> Iterator[InProcessCluster]:
    """A cluster in this process, which starts in milliseconds."""
    wanted = _wanted(request)
    from ipython1.testing.inprocess import InProcessCluster

    with InProcessCluster(wanted.engines) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def _ipython1_lender() -> Iterator[Any]:
    """Ends all clusters of processes with the test run."""
    from ipython1.testing.lending import lender

    try:
        yield lender
    finally:
        lender.close()


@pytest.fixture
def ipython1_cluster(
    request: pytest.FixtureRequest, _ipython1_lender: Any
) -> Iterator[TemporaryCluster]:
    """A cluster of processes, which is started for the first test that uses it and reset after each."""
    wanted = _wanted(request)
    with _ipython1_lender.lend(wanted.engines, wanted.fresh) as cluster:
        request.node.stash[_LENT] = _Lent(cluster, cluster.log_sizes())
        yield cluster


@pytest.fixture
def ipython1_engines(ipython1_cluster: TemporaryCluster) -> MultiEngineClient:
    """A ``MultiEngineClient`` of the test's cluster of processes."""
    return ipython1_cluster.multiengine()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    lent = item.stash.get(_LENT, None)
    if lent is not None and report.failed:
        logged = lent.cluster.logged_since(lent.sizes)
        if logged:
            report.sections.append(("Captured ipython1 cluster log", logged))
    return report
