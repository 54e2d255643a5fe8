"""What must be true of a topic and a table after any crash, given what was sent and acknowledged."""
import collections
import json

from connectd import rows


class Loss(AssertionError):
    """An acknowledged record is not there: what a control must bring about."""


class Duplicate(AssertionError):
    """A record or row is there more often than it was sent."""


class Torn(AssertionError):
    """Of one request's records some are there and some are not."""


class Topic:
    """Remembers all that was ever read from a topic: the same place must hold the same bytes for ever."""

    def __init__(self, host, name, partitions):
        self.host, self.name = host, name
        self.seen = [b""] * partitions
        self.values = [[] for _ in range(partitions)]

    def read(self, host=None):
        """Reads every partition from its beginning and compares it with what was read before."""
        host = host or self.host
        for p, before in enumerate(self.seen):
            now = host.topic("read", self.name, "--partition", p, "--from-beginning", "--until-end", "--format", "value")
            if not now.startswith(before):
                common = next((i for i, (x, y) in enumerate(zip(before, now)) if x != y), min(len(now), len(before)))
                raise Loss(f"{self.name}-{p}: records that were read before are gone or changed from offset "
                           f"{before[:common].count(10)} ({len(before)} bytes then, {len(now)} now)")
            self.values[p] += now[len(before):].decode().split("\n")[:-1]
            self.seen[p] = now

    def total(self):
        return sum(map(len, self.values))


def check_acked(topic, load):
    """No acked record lost, none invented, none twice, order per key kept, each at the place it was told."""
    lost = [(v, at) for v, at in load.acked.items()
            if at[1] >= len(topic.values[at[0]]) or topic.values[at[0]][at[1]] != v]
    if lost:
        raise Loss(f"{len(lost)} acked records are not at their place; the first: {lost[0]}")
    counted = collections.Counter(v for values in topic.values for v in values)
    invented = [v for v in counted if v not in load.sent or v in load.rejected]
    assert not invented, f"{len(invented)} records that nobody sent: {invented[:3]}"
    twice = [v for v, n in counted.items() if n > 1]
    if twice:
        raise Duplicate(f"{len(twice)} records are there more than once: {twice[:3]}")
    for p, values in enumerate(topic.values):
        last = {}
        for offset, value in enumerate(values):
            record = json.loads(value)
            assert record["n"] > last.get(record["w"], -1), f"{topic.name}-{p}@{offset}: {value} after {last}"
            last[record["w"]] = record["n"]
    assert not load.errors, load.errors[:3]


def check_units(topic, load):
    """A request's records are all there or none, each in the partition that the request named. Returns of the
    requests over several partitions that the crash left without an answer how many are there, how many not."""
    place = {v: p for p, values in enumerate(topic.values) for v in values}
    torn, astray = [], []
    for unit in load.units:
        found = [(v, p) for v, p in unit if v in place]
        if 0 < len(found) < len(unit):
            torn.append((found, [r for r in unit if r not in found]))
        astray += [(v, p, place[v]) for v, p in found if p not in (None, place[v])]
    if torn:
        raise Torn(f"{len(torn)} requests are there in part; of the first there are {torn[0][0]}, not {torn[0][1]}")
    assert not astray, f"{len(astray)} records in another partition than asked for: {astray[:3]}"
    whole = sum(unit[0][0] in place for unit in load.left)
    return whole, len(load.left) - whole


def check_lines(topic, written):
    """Source to log is exactly once: the topic holds the file's lines, each once, in the file's order."""
    order = {line: i for i, line in enumerate(written)}
    found = collections.Counter(v for values in topic.values for v in values)
    twice = [v for v, n in found.items() if n > 1]
    if twice:
        raise Duplicate(f"{len(twice)} lines are there more than once: {twice[:3]}")
    assert set(found) <= set(order), f"lines that the file never had: {sorted(set(found) - set(order))[:3]}"
    for values in topic.values:
        places = [order[v] for v in values]
        assert places == sorted(places), "lines out of order"


def table_rows(db, table):
    return rows(db, f'SELECT w, n FROM "{table}"')


def check_table(db, table, topic):
    """No row twice, none that the topic hasn't. Returns how many rows there are."""
    found = table_rows(db, table)
    if len(set(found)) < len(found):
        raise Duplicate(f"{len(found) - len(set(found))} rows are there twice")
    known = {(r["w"], r["n"]) for values in topic.values for r in map(json.loads, values)}
    strange = set(found) - known
    assert not strange, f"{len(strange)} rows that the topic doesn't have: {sorted(strange)[:3]}"
    return len(found)
