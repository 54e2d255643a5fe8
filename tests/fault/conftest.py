"""Fixtures of the scenario tests: `host` makes hosts in folders of their own and ends them after the test."""
import shutil

import connectd
import pytest


@pytest.fixture
def host(tmp_path):
    """host(config, pipelines, name="a", env={}) -> connectd.Host, not started."""
    made = []

    def make(config="", pipelines=None, name="a", env=None):
        made.append(connectd.Host(tmp_path / name, config, pipelines, env))
        return made[-1]
    yield make
    for one in made:
        one.end()
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def built():
    """Every test here needs the binaries; without them each would fail with less to say."""
    assert connectd.binary().exists(), f"no {connectd.binary()}: ./dev build"
