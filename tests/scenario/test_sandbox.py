"""What a runner process is given, seen from outside: next to nothing."""
import os
import stat

import connectd
import pytest
from pipelines import file_source, topic


@pytest.fixture
def a(host):
    one = host("env.pass: SHOWN\n", env={"SHOWN": "yes", "HIDDEN": "no"}, pipelines={
        "t": topic("lines", 1), "in": file_source("in", "in.txt", "lines")})
    one.path("in.txt").write_text("one\n")
    one.start().wait_records("lines", 1)
    return one


def proc_status(pid):
    text = connectd.read_proc(pid, "status").decode()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_its_environment_is_what_env_pass_names(a):
    entries = connectd.read_proc(a.runner_of("in"), "environ").split(b"\0")
    names = {e.split(b"=")[0] for e in entries if e}
    assert b"SHOWN" in names and b"HIDDEN" not in names and b"PATH" not in names


def test_it_gains_no_privileges_and_is_filtered(a):
    status = proc_status(a.runner_of("in"))
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2" or connectd.SANITIZED
    limits = connectd.read_proc(a.runner_of("in"), "limits").decode()
    assert [l for l in limits.splitlines() if l.startswith("Max core file size")][0].split()[4] == "0"


def test_its_descriptors_are_its_link_and_its_own(a):
    """Nothing of the host's: no log segment, no journal, no listening socket, no other runner's lock."""
    pid = a.runner_of("in")
    links = [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
    below = [l for l in links if l.startswith(str(a.data))]
    assert below == [str(a.data / "run/in.lock")]
    assert len([l for l in links if l.startswith("socket:")]) == 2


def test_its_command_line_has_no_config(a):
    line = connectd.read_proc(a.runner_of("in"), "cmdline")
    assert b"in.txt" not in line and b"StringConverter" not in line


def test_what_the_host_writes_is_its_users_alone(a):
    for path in [a.data, *a.data.rglob("*")]:
        assert not path.lstat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path
