"""Shared fixtures, and the nodes' logs beside every failed test."""

import signal
import sys

import pytest

from cluster import Cluster


def pytest_configure():
    # A run that is told to end (a time limit, CI) must still take its nodes with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=8, help="kills per failover measurement (50 for the full one)")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for cluster in Cluster.live:
            report.sections.extend(cluster.log_tails())


@pytest.fixture
def cluster():
    """Three nodes, three groups, of this test alone."""
    with Cluster() as started:
        yield started


@pytest.fixture
def kills(request):
    return request.config.getoption("--kills")
