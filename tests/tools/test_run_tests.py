"""The counter itself: what it must not let pass."""
import os
import pathlib
import subprocess

import pytest
import run_tests
from run_tests import Result

ROOT = pathlib.Path(__file__).resolve().parents[2]
CMOCKA = """
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
static void good(void **s) { (void)s; }
static void bad(void **s) { (void)s; assert_int_equal(1, 2); }
static void skipped(void **s) { (void)s; skip(); }
static void dies(void **s) { (void)s; _Exit(3); }
int main(void)
{
    const struct CMUnitTest tests[] = { TESTS };
    int failed = cmocka_run_group_tests_name("group", tests, NULL, NULL);
    return failed + cmocka_run_group_tests_name("group", tests, NULL, NULL);
}
"""


@pytest.fixture
def binary(tmp_path):
    """Makes a test binary that runs two groups of the same name, as some of ours do."""
    def make(*tests):
        path = tmp_path / "test_made"
        listed = ", ".join(f"cmocka_unit_test({t})" for t in tests)
        subprocess.run(["gcc", "-w", f"-DTESTS={listed}", "-x", "c", "-", "-o", path, "-lcmocka"],
                       input=CMOCKA, text=True, check=True)
        return path
    return make


def outcomes(results):
    return sorted(r.outcome for r in results)


def test_counts_what_cmocka_reports(binary):
    results = run_tests.run_binary(binary("good", "bad", "skipped"), "dev")
    assert outcomes(results) == ["failed"] * 2 + ["passed"] * 2 + ["skipped"] * 2
    assert {r.name.split(".")[-1] for r in results} == {"good", "bad", "skipped"}


def test_a_binary_that_dies_is_a_failure(binary):
    assert "failed" in outcomes(run_tests.run_binary(binary("good", "dies"), "dev"))


def test_a_binary_that_ends_early_is_a_failure_whatever_it_returns():
    assert outcomes(run_tests.parse_tap("1..2\nok 1 - a\n", "x")) == ["failed", "passed"]


def test_half_a_line_of_a_tests_own_hides_nothing():
    assert outcomes(run_tests.parse_tap("1..2\nhalf a line not ok 1 - a\nsaid ok 2 - b\n", "x")) == ["failed", "passed"]


def test_a_binary_without_tests_is_a_failure(tmp_path):
    script = tmp_path / "test_nothing"
    script.write_text("#!/bin/sh\nexit 0\n")
    os.chmod(script, 0o755)
    assert outcomes(run_tests.run_binary(script, "dev")) == ["failed"]


def test_skips_must_be_listed_by_name_and_reason():
    allowed = [("fault.test_power*", "needs root")]
    judged = run_tests.judge_skips([
        Result("fault.test_powercut", "skipped", "needs root and loop devices"),
        Result("fault.test_powercut", "skipped", "felt like it"),
        Result("scenario.other", "skipped", "needs root"),
        Result("unit.x", "passed", "")], allowed)
    assert [r.outcome for r in judged] == ["skipped", "failed", "failed", "passed"]


def test_a_listed_skip_without_a_reason_allows_nothing(tmp_path):
    path = tmp_path / "allowed.txt"
    path.write_text("# comment\nunit.x |\nunit.y | why # remark\n")
    allowed = run_tests.read_allowed(path)
    assert allowed == [("unit.x", ""), ("unit.y", "why")]
    assert run_tests.judge_skips([Result("unit.x", "skipped", "")], allowed)[0].outcome == "failed"


def test_the_summary_is_the_promised_line():
    assert run_tests.summary([Result("a", "passed", ""), Result("b", "skipped", "")]) == "1 passed, 0 failed, 1 skipped"


def test_dev_without_root_names_the_packages_and_stops(tmp_path):
    """As a user that is not root, with one package that is missing for certain."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "packages.txt").write_text("gcc # there\nno-such-package-anywhere # missing\n")
    (tree / "dev").write_text((ROOT / "dev").read_text())
    for path in (tmp_path, tree, tree / "dev", tree / "packages.txt", *tmp_path.parents[:2]):
        os.chmod(path, 0o755)
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash", tree / "dev", "build"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = (done.stdout + done.stderr).splitlines()
    assert lines == ["apt-get install --no-install-recommends no-such-package-anywhere"]
    assert "sudo" not in (ROOT / "dev").read_text().replace("never calls sudo", "")
