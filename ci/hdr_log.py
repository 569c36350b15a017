"""Compares what PyPI's hdrhistogram reads in logs with a document of `trustctl load merge`.

    hdr_log.py DOCUMENT LOG…
"""

import json
import math
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

# As trustctl has them: nanoseconds up to an hour.
HIGHEST_NS = 3_600_000_000_000
DIGITS = 3
# What both say must be the same to the last digit.
QUANTILES = {
    "p50_ns": 0.5, "p75_ns": 0.75, "p90_ns": 0.9, "p95_ns": 0.95,
    "p99_ns": 0.99, "p99_9_ns": 0.999, "p99_99_ns": 0.9999, "max_ns": 1.0,
}


def main(document_path, log_paths):
    with open(document_path, encoding="utf-8") as file:
        document = json.load(file)
    if len(document["logs"]) != len(log_paths):
        fail(f"{len(document['logs'])} logs in the document, {len(log_paths)} were given")
    sums = {None: histogram(), "service": histogram()}
    for path, log in zip(log_paths, document["logs"]):
        rows = read(path, sums)
        # The reader skips in silence what it takes for earlier than the start of the log.
        lines = written(path)
        if not rows == lines == log["interval_lines"] or rows == 0:
            ours = log["interval_lines"]
            fail(f"{path} has {lines} intervals: the reader finds {rows}, trustctl {ours}")
    for tag, name in ((None, "latency"), ("service", "service")):
        compare(name, sums[tag], document[name])
    total = sum(sums[tag].get_total_count() for tag in sums)
    same = f"{len(log_paths)} logs, {total} values, and {2 * len(QUANTILES)} percentiles"
    print(f"hdr-log: {same} are the same")


def histogram():
    return HdrHistogram(1, HIGHEST_NS, DIGITS)


def read(path, sums):
    """Adds a log up by tag; the number of its intervals."""
    reader = HistogramLogReader(path, histogram())
    rows = 0
    last = 0
    while (interval := reader.get_next_interval_histogram()) is not None:
        tag = interval.get_tag()
        if tag not in sums:
            fail(f"{path}: there is a tag {tag}")
        begin = interval.get_start_time_stamp()
        if begin < max(last, reader.get_start_time_sec() * 1000):
            fail(f"{path}: an interval begins at {begin}, before the one above it or the log")
        last = begin
        sums[tag].add(interval)
        rows += 1
    reader.close()
    return rows


def written(path):
    """Lines with an interval, counted without any reader."""
    with open(path, encoding="utf-8") as file:
        return sum(not line.startswith(("#", '"')) for line in file)


def compare(name, found, said):
    if found.get_total_count() != said["count"]:
        fail(f"{name}: the reader finds {found.get_total_count()} values, trustctl {said['count']}")
    total = said["count"]
    if total == 0:
        fail(f"{name}: there are no values to compare")
    for name_of, quantile in QUANTILES.items():
        # Which of the sorted values a percentile is: the reader rounds, while trustctl (and
        # HdrHistogram for Java) takes the next one up. So the reader is asked for the very same
        # one.
        rank = math.ceil(quantile * total)
        value = found.get_value_at_percentile(100 * rank / total)
        if value != said[name_of]:
            fail(f"{name}: {name_of} is {value} to the reader, {said[name_of]} to trustctl")


def fail(problem):
    sys.exit(f"hdr-log: {problem}")


main(sys.argv[1], sys.argv[2:])
