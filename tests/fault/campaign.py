"""Crash campaigns: how many cycles, what is printed, and the kill -9 one itself."""
import dataclasses
import os
import random
import signal
import subprocess
import time

import connectd
import verify
from connectd import kill_if_alive, wait_until
from load import Load
from pipelines import file_sink, file_source, sqlite_sink

CYCLES = {"everyday": 50, "ci": 200, "long": 2000}
MIN_UNITS = 16      # in flight when the host dies
MIN_ACKED = 100     # since the last crash
MIN_SHARE = 0.8     # of cycles in which work was still un-acked
SOURCE_BATCH = 20   # lines of a poll, which is a commit unit
SOURCE_WINDOW_BYTES = 8 << 20  # of units that a source may have sent and not have answers for
# A data directory is changed for a fresh one after so many cycles: all that it holds is read in each.
CYCLES_PER_HOST = 40
PARTITIONS = 4


def cycles():
    """How many cycles this level asks for; sanitizer builds do the everyday number."""
    return int(os.environ.get("CONNECTD_CYCLES", CYCLES[connectd.LEVEL]))


def seed():
    return int(os.environ.get("CONNECTD_SEED", "0")) or int.from_bytes(os.urandom(4), "little")


def build_id():
    """What was tested: the ELF build id of the binary."""
    out = subprocess.run(["readelf", "-n", connectd.binary()], capture_output=True, text=True, check=False).stdout
    found = [l.split(":")[1].strip() for l in out.splitlines() if "Build ID" in l]
    return f"{connectd.BUILD.name}:{found[0][:12] if found else 'none'}"


@dataclasses.dataclass
class Report:
    """One campaign, in one line. As a context it prints itself and counts what verify found."""
    name: str
    seed: int
    host_kills: int = 0
    in_flight: int = 0      # units when the host died: requests that it never answered
    busy: int = 0           # host kills with MIN_UNITS in flight
    runner_kills: int = 0   # of runners alone
    rest_units: int = 0     # requests whose answer had not been read at that moment
    source_units: int = 0   # what the source may have had in flight then, at most
    lines_waiting: int = 0  # lines of the source's file that weren't in the topic, polled or not
    runner_busy: int = 0    # runner kills with lines waiting
    acked: int = 0        # of hosts that are done
    load: Load = None     # of the host that runs
    spread_acked: int = 0  # requests over several partitions, likewise
    spread_whole: int = 0  # those that a crash left without an answer, and that were there after it
    spread_none: int = 0   # and that were not
    lost: int = 0
    dup: int = 0
    torn: int = 0
    control: str = "not run"
    begun: float = dataclasses.field(default_factory=time.monotonic)

    def host_killed(self, unanswered):
        self.host_kills += 1
        self.in_flight += unanswered
        self.busy += unanswered >= MIN_UNITS

    def runners_killed(self, rest_units, source_units, waiting):
        self.runner_kills += 1
        self.rest_units += rest_units
        self.source_units += source_units
        self.lines_waiting += waiting
        self.runner_busy += waiting > 0

    def check_shares(self):
        """A campaign that hit idle processes proves nothing."""
        assert self.busy >= MIN_SHARE * self.host_kills > 0, \
            f"only {self.busy} of {self.host_kills} host kills had {MIN_UNITS} units in flight"
        assert self.runner_busy >= MIN_SHARE * self.runner_kills, \
            f"only {self.runner_busy} of {self.runner_kills} runner kills had lines waiting"

    def follow(self, load):
        """The load of a fresh host; what the one before had acked stays counted."""
        self.acked += len(self.load.acked) if self.load else 0
        self.spread_acked += self.load.spread_acked if self.load else 0
        self.load = load

    def judged(self, whole, none):
        """What check_units() found."""
        self.spread_whole += whole
        self.spread_none += none

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.follow(None)
        self.lost += isinstance(error, verify.Loss)
        self.dup += isinstance(error, verify.Duplicate)
        self.torn += isinstance(error, verify.Torn)
        self.print()

    def print(self):
        hosts, runners = max(self.host_kills, 1), max(self.runner_kills, 1)
        of_runners = (f"runner_kills={self.runner_kills} rest_units_avg={self.rest_units / runners:.1f} "
                      f"source_units_avg<={self.source_units / runners:.1f} "
                      f"lines_waiting_avg={self.lines_waiting / runners:.0f} "
                      f"lines_waiting_share={self.runner_busy / runners:.0%} ") if self.runner_kills else ""
        print(f"campaign {self.name}: build={build_id()} seed={self.seed} cycles={self.host_kills + self.runner_kills} "
              f"host_kills={self.host_kills} units_in_flight_avg={self.in_flight / hosts:.1f} "
              f"unacked_share={self.busy / hosts:.0%} {of_runners}acked={self.acked} spread_acked={self.spread_acked} spread_unanswered={self.spread_whole} whole+"
              f"{self.spread_none} absent lost={self.lost} dup={self.dup} torn={self.torn} control={self.control} "
              f"wall={time.monotonic() - self.begun:.1f}s", flush=True)


def pause_ms(rng):
    """How long the load goes on once enough is acked: log-uniform 1 to 500 ms, 1 in 50 up to 3 s."""
    return rng.uniform(500, 3000) if rng.random() < 0.02 else 10 ** rng.uniform(0, 2.7)


def moment(rng, longest_ms):
    """Passes the last moment before the crash, busily: up to longest_ms, most often much less."""
    end = time.monotonic() + longest_ms * rng.random() ** 3 / 1000
    while time.monotonic() < end:
        pass


class Source:
    """A file that grows, and how much of it is in the topic."""

    def __init__(self, host, path):
        self.host, self.path, self.lines = host, path, []

    def append(self, n):
        new = [f"line {len(self.lines) + i}" for i in range(n)]
        self.lines += new
        with open(self.path, "a", encoding="utf-8") as f:
            f.write("".join(l + "\n" for l in new))

    def waiting(self):
        """Lines that are not in the topic, whether a runner has polled them or not."""
        return len(self.lines) - sum(self.host.ends("lines") or [0])

    def units_at_most(self, waiting):
        """How many units may be sent and not answered when so many lines wait. From outside nobody can tell a line
        that was sent from one that was never polled; more than the window can't be on the way."""
        return -(-min(waiting, SOURCE_WINDOW_BYTES // len(self.lines[-1])) // SOURCE_BATCH)


class Bench:
    """One data directory under load: REST writers, a source, two sinks."""

    def __init__(self, folder, control=None, source_file="in.txt", torn=False):
        env = {"CONNECTD_CONTROL": control} if control else {}
        self.config = f"topics:\n  acks: {{partitions: {PARTITIONS}}}\n  lines: {{partitions: 2}}\n"
        quick = {"restart_backoff_ms": 20, "restart_backoff_max_ms": 20}
        self.pipelines = {
            "in": file_source("in", str(source_file), "lines", batch_size=SOURCE_BATCH, **quick),
            "db": sqlite_sink("db", "acks", "acks.db", tasks_max=2, **quick),
            "out": file_sink("out", "lines", "out.txt", **quick)}
        self.host = connectd.Host(folder, self.config, self.pipelines, env)
        self.load = Load("acks", partitions=PARTITIONS, torn=torn)
        self.acks = verify.Topic(self.host, "acks", PARTITIONS)
        self.lines = verify.Topic(self.host, "lines", 2)
        self.source = Source(self.host, self.host.dir / source_file)
        self.source.append(1)

    def check(self):
        """All earlier records, each time. Returns what check_units() does."""
        self.acks.read()
        verify.check_acked(self.acks, self.load)
        spread = verify.check_units(self.acks, self.load)
        self.lines.read()
        verify.check_lines(self.lines, self.source.lines)
        verify.check_table(self.host.path("acks.db"), "acks", self.acks)
        return spread

    def check_all_arrived(self):
        """After the last cycle: what is in the topics is in the table once, in the file at least once."""
        host = self.host
        host.wait_running("in", "db", "out", seconds=30)
        wait_until(lambda: self.source.waiting() == 0, "the source has read all", 30)
        self.check()
        assert self.lines.total() == len(self.source.lines)
        wait_until(lambda: len(verify.table_rows(host.path("acks.db"), "acks")) >= self.acks.total(),
                   "every record has its row", 30)
        assert verify.check_table(host.path("acks.db"), "acks", self.acks) == self.acks.total()
        wait_until(lambda: set(host.path("out.txt").read_text().split("\n")[:-1]) >= set(self.source.lines),
                   "every line is in the file", 30)
        assert set(host.path("out.txt").read_text().split("\n")[:-1]) == set(self.source.lines)

    def load_until(self, rng):
        """Writers on; returns when enough is acked and a random time has passed."""
        acked = len(self.load.acked)
        self.load.start(self.host.url)
        wait_until(lambda: len(self.load.acked) >= acked + MIN_ACKED, f"{MIN_ACKED} acks", 20, every=0.001)
        end = time.monotonic() + pause_ms(rng) / 1000
        while time.monotonic() < end:
            self.source.append(SOURCE_BATCH)
            connectd._never.wait(0.002)


def kill_host(bench, rng, report):
    """The host alone, or with its runners in any order. In flight are the requests that it never answered; the
    source has units on the way too, but a dead host can't be asked how many."""
    victims = [bench.host.pid]
    if rng.random() < 0.5:
        victims += bench.host.runners()
        rng.shuffle(victims)
    bench.source.append(rng.randint(100, 800))
    bench.load.burst()
    moment(rng, 0.5)
    for pid in victims:
        kill_if_alive(pid)
    bench.load.freeze()
    bench.host.wait_exit()
    report.host_killed(bench.load.drain())
    bench.load.close()
    bench.host.start()


def kill_runners(bench, rng, report):
    """One runner or all of them; the host goes on, and so do the writers."""
    runners = bench.host.runners()
    source = bench.host.runner_of("in")
    victims = [source] if source and rng.random() < 0.5 else runners
    bench.source.append(2000)
    moment(rng, 5)
    for pid in victims:
        kill_if_alive(pid, signal.SIGKILL)
    flying = bench.load.freeze()
    waiting = bench.source.waiting()
    report.runners_killed(flying, bench.source.units_at_most(waiting), waiting)
    left = bench.load.drain(5.0)
    bench.load.close()
    assert left == 0, "a runner's death must not hold up anybody else's acks"
    bench.host.wait_running("in", "db", "out", seconds=30)


def run(folder, report, n, control=None, kinds=(kill_host, kill_runners), torn=False):
    """n cycles, or with a control: until it is caught, at most n. Raises what verify found."""
    rng = random.Random(report.seed)
    bench, turn = None, []
    try:
        for i in range(n):
            if i % CYCLES_PER_HOST == 0:
                if bench is not None:
                    bench.check_all_arrived()
                    bench.host.end()
                bench = Bench(folder / f"host-{i}", control, torn=torn)
                report.follow(bench.load)
                bench.host.start().wait_running("in", "db", "out")
            bench.load_until(rng)
            turn = turn or rng.sample(kinds, len(kinds))  # as many of each kind
            turn.pop()(bench, rng, report)
            report.judged(*bench.check())
        if control is None:
            bench.check_all_arrived()
    finally:
        if bench is not None:
            bench.load.close()
            bench.host.end()
