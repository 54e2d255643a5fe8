"""Runs the tests of every kind and counts them: `./dev test`.

Kinds: the checks of the tree, the cmocka binaries of build/FLAVOUR/tests, and pytest (self-tests of the
tools, scenarios, fault campaigns). Each is asked for a report for machines (TAP, JUnit), so that nothing is
counted from prose. A binary that dies, or reports nothing, is a failed test. A skip is allowed only when
tests/allowed-skips.txt names it with its reason; any other counts as failed.

The last line of stdout is "N passed, N failed, N skipped"; exit 1 if any failed.
"""
import argparse
import collections
import fnmatch
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

import check_all

ROOT = pathlib.Path(__file__).resolve().parents[2]
REPORTS = ROOT / "build" / "reports"
UNIT_DEADLINE_S = 300

Result = collections.namedtuple("Result", "name outcome detail")  # outcome: passed, failed, skipped


def parse_junit(path, prefix):
    """The results in one JUnit report; none if there is no readable report."""
    try:
        tree = ElementTree.parse(path)
    except (OSError, ElementTree.ParseError):
        return []
    results = []
    for case in tree.iter("testcase"):
        name = ".".join(filter(None, [prefix, case.get("classname"), case.get("name")]))
        bad = case.find("failure")
        bad = case.find("error") if bad is None else bad
        skip = case.find("skipped")
        if bad is not None:
            results.append(Result(name, "failed", (bad.get("message") or bad.text or "").strip()))
        elif skip is not None:
            results.append(Result(name, "skipped", (skip.get("message") or skip.text or "").strip()))
        else:
            results.append(Result(name, "passed", ""))
    return results


def with_exit(results, name, code, output):
    """Adds a failed result where the exit status says more than the report does."""
    if not results and code == 0:
        return [Result(name, "failed", "ran no test")]
    if code != 0 and not any(r.outcome == "failed" for r in results):
        how = f"killed by signal {-code}" if code < 0 else f"exit {code}"
        return results + [Result(name, "failed", f"{how}\n{output[-3000:]}")]
    return results


# cmocka's TAP: a plan before each group, a line for each test.
TAP_PLAN = re.compile(r"^1\.\.(\d+)$")
TAP_TEST = re.compile(r"\b(not ok|ok) \d+ (?:- |(# SKIP) )(\S+)$")  # a test may have left half a line before it


def parse_tap(text, prefix):
    """The results in TAP output; one failed more when fewer tests were run than planned."""
    results, planned = [], 0
    for line in text.splitlines():
        plan_line, test = TAP_PLAN.match(line), TAP_TEST.search(line)
        if plan_line:
            planned += int(plan_line[1])
        if test:
            # cmocka calls a skipped test "not ok", and has no words for why.
            outcome = "skipped" if test[2] else "failed" if test[1] == "not ok" else "passed"
            results.append(Result(f"{prefix}.{test[3]}", outcome, line if outcome == "failed" else ""))
    if len(results) != planned:
        results.append(Result(prefix, "failed", f"{planned} tests planned, {len(results)} reported"))
    return results


def run_binary(path, flavour):
    name = f"{flavour}.{path.name}"
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP")
    try:
        done = subprocess.run([path], env=env, cwd=ROOT, capture_output=True, timeout=UNIT_DEADLINE_S, check=False)
        code, out, errors = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        code, out, errors = 124, late.stdout or b"", (late.stderr or b"") + b"\nran out of time"
    out, errors = (b.decode("utf-8", "replace") for b in (out, errors))
    results = with_exit(parse_tap(out, name), name, code, out + errors)
    if any(r.outcome == "failed" for r in results):
        print((out + errors)[-6000:])
    return results


def run_units(flavour, expression):
    binaries = [p for p in sorted((ROOT / "build" / flavour / "tests").glob("test_*"))
                if p.is_file() and os.access(p, os.X_OK) and p.suffix == ""]
    results = []
    for path in binaries:
        if expression and not expression_names(expression, path.name):
            continue
        begun = time.monotonic()
        found = run_binary(path, flavour)
        results += found
        print(f"unit {flavour} {path.name}: {summary(found)} in {time.monotonic() - begun:.1f} s", flush=True)
    if not binaries:
        results.append(Result(f"{flavour}.units", "failed", f"no test binary in build/{flavour}/tests"))
    return results


def expression_names(expression, name):
    """Whether a -k expression's words (and, or, not aside) occur in a binary's name."""
    words = expression.replace("(", " ").replace(")", " ").split()
    return any(w in name for w in words if w not in ("and", "or", "not"))


def run_checks():
    results = []
    for name, findings in check_all.run():
        print(f"check {name}: {len(findings)} finding(s)", *findings, sep="\n  ", flush=True)
        outcome = "failed" if findings else "passed"
        results.append(Result(f"check.{name}", outcome, "\n".join(findings)))
    return results


def run_pytest(label, paths, level, flavour, expression):
    """pytest on `paths` with the binaries of `flavour`; its output goes on as it is."""
    report = REPORTS / f"pytest-{label}.xml"
    report.unlink(missing_ok=True)
    build = ROOT / "build" if flavour == "release" else ROOT / "build" / flavour
    env = dict(os.environ, CONNECTD_BUILD=str(build), CONNECTD_TEST_LEVEL=level)
    # -s for campaigns: their one line is a result too.
    command = [sys.executable, "-m", "pytest", "-q", "-rfEs", "--durations=8", "-p", "no:cacheprovider",
               *(["-s"] if "tests/fault" in paths else []),
               f"--junitxml={report}", *([] if expression is None else ["-k", expression]),
               *[str(ROOT / p) for p in paths]]
    print(f"pytest {label}", flush=True)
    code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
    results = parse_junit(report, label)
    # 5: nothing collected, which a -k that names only unit tests may mean.
    if code == 5 and expression is not None:
        return results
    return with_exit(results, f"pytest.{label}", code, "see above")


def read_allowed(path):
    """[(name pattern, reason)] of allowed-skips.txt: "NAME | REASON" a line, '#' begins a comment."""
    allowed = []
    for line in path.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            name, _, reason = line.partition("|")
            allowed.append((name.strip(), reason.strip()))
    return allowed


def judge_skips(results, allowed):
    """Turns every skip that is not allowed, by name and (where the test gives one) reason, into a failure."""
    judged = []
    for r in results:
        if r.outcome == "skipped" and not any(
                fnmatch.fnmatchcase(r.name, name) and reason and (not r.detail or reason in r.detail)
                for name, reason in allowed):
            r = Result(r.name, "failed", f"skipped, but not in tests/allowed-skips.txt: {r.detail}")
        judged.append(r)
    return judged


def summary(results):
    count = collections.Counter(r.outcome for r in results)
    return f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped"


def plan(args):
    """Runs what the level and flavour ask for, in order of how quickly it tells."""
    if args.only:
        results = run_units(args.only, args.expression)
        if args.only == "tsan":
            results += run_pytest("tsan-crash", ["tests/scenario/test_crash.py"], args.level, "tsan", args.expression)
            return results + run_pytest("tsan", ["tests/fault"], args.level, "tsan", args.expression or "kill")
        return results + run_pytest("asan", ["tests/scenario"], args.level, "asan", args.expression)
    results = [] if args.expression else run_checks()
    results += run_units("dev", args.expression)
    results += run_pytest("tools", ["tests/tools"], args.level, "release", args.expression)
    results += run_pytest("scenario", ["tests/scenario"], args.level, "release", args.expression)
    results += run_pytest("fault", ["tests/fault"], args.level, "release", args.expression)
    if args.level != "everyday":
        for flavour in ("asan", "tsan"):
            results += run_units(flavour, args.expression)
        results += run_pytest("asan", ["tests/scenario"], "everyday", "asan", args.expression)
        results += run_pytest("tsan-crash", ["tests/scenario/test_crash.py"], "everyday", "tsan", args.expression)
        results += run_pytest("tsan", ["tests/fault"], "everyday", "tsan", args.expression or "kill")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", choices=["everyday", "ci", "long"], default="everyday")
    parser.add_argument("--only", choices=["asan", "tsan"])
    parser.add_argument("-k", dest="expression")
    args = parser.parse_args()
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    os.environ["CONNECTD_TEST_LEVEL"] = args.level  # unit tests may ask for it too
    begun = time.monotonic()
    results = judge_skips(plan(args), read_allowed(ROOT / "tests" / "allowed-skips.txt"))
    for r in results:
        if r.outcome != "passed":
            print(f"{r.outcome.upper()} {r.name}: {r.detail.splitlines()[0] if r.detail else ''}")
    print(f"{time.monotonic() - begun:.0f} s")
    print(summary(results), flush=True)
    sys.exit(1 if any(r.outcome == "failed" for r in results) or not results else 0)


if __name__ == "__main__":
    main()
