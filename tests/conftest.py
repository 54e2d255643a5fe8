"""Fixtures of scenario and fault tests: `host` makes hosts in folders of their own and ends them after the test."""
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "scenario"))
import connectd  # noqa: E402  (the path is set above)


@pytest.fixture
def host(tmp_path):
    """host(config, pipelines, name="a", env={}) -> connectd.Host, not started."""
    assert connectd.binary().exists(), f"no {connectd.binary()}: ./dev build"
    made = []

    def make(config="", pipelines=None, name="a", env=None):
        made.append(connectd.Host(tmp_path / name, config, pipelines, env))
        return made[-1]
    yield make
    for one in made:
        one.end()
    shutil.rmtree(tmp_path, ignore_errors=True)
