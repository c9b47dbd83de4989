#!/usr/bin/env python3
"""The table of docs/benchmarks.md, from the figures that scripts/bench has noted.

    table.py RESULTS             prints it
    table.py RESULTS DOCUMENT    puts it between the document's markers <!-- figures --> and <!-- /figures -->

RESULTS: a line for each figure: what, who, metric, value. The standard input is what stands above the table (machine, versions, commit).
"""
import collections
import statistics
import sys

ROWS = [  # what was measured, metric, unit, what it is called
    ("copy", "seconds", "s", "copy of the set, indexes and constraints included"),
    ("tpcb", "seconds", "s", "TPC-B transactions"),
    ("wide_inserts", "seconds", "s", "wide inserts"),
    ("wide_updates", "seconds", "s", "wide updates"),
    ("narrow_inserts", "seconds", "s", "narrow inserts"),
    ("narrow_updates", "seconds", "s", "narrow updates"),
    ("deletes", "seconds", "s", "deletes"),
    ("hot", "seconds", "s", "one hot row"),
    ("many_tables", "seconds", "s", "small tables, a few changes each"),
    ("unique_swaps", "seconds", "s", "swaps of unique values"),
    ("narrow_inserts", "start", "s", "start, one row to apply"),
    ("delay idle", "p50_ms", "ms", "delay p50, idle"),
    ("delay idle", "p99_ms", "ms", "delay p99, idle"),
    ("delay busy", "p50_ms", "ms", "delay p50, 500 a second"),
    ("delay busy", "p99_ms", "ms", "delay p99, 500 a second"),
    ("memory large_transaction", "peak_mb", "MB", "memory: one large transaction"),
    ("memory backlog", "peak_mb", "MB", "memory: a backlog"),
    ("memory rows_of_50_mb", "peak_mb", "MB", "memory: rows of 50 MB"),
    ("memory large_table", "peak_mb", "MB", "memory: a large table"),
]
HELD = [
    ("copy", "snapshot_s", "s", "copy: age of the oldest snapshot"),
    ("delay busy", "retained_mb", "MB", "500 transactions a second: WAL behind the slot"),
    ("delay busy", "catalog_age", "", "500 transactions a second: transactions behind the slot's catalog xmin"),
]
PEERS = ["native", "dump_restore", "pgcopydb"]


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def shown(values, unit):
    if not values:
        return ""
    text = f"{number(statistics.median(values))} {unit}".rstrip()
    return text if len(values) == 1 else f"{text} ({number(min(values))}–{number(max(values))})"


def limits(figures, what, seconds):
    """Who is busy how much of the time, the busiest first: the first one is the limit."""
    parts = [("apply session", "apply_cpu"), ("walsender", "source_cpu"), ("walferry", "own_cpu")]
    if what == "copy":
        parts = [("target", "target_cpu"), ("source", "source_cpu")]
    busy = []
    for name, metric in parts:
        values = figures.get((what, "walferry", metric))
        if values and seconds:
            busy.append((100 * statistics.median(values) / seconds, name))
    return ", ".join(f"{name} {share:.0f} %" for share, name in sorted(busy, reverse=True))


def table(figures):
    lines = [
        "| what | walferry | native | drain | pg_dump, pg_restore | pgcopydb | walferry / best peer | busy during it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for what, metric, unit, name in ROWS:
        ours = figures.get((what, "walferry", metric))
        if not ours:
            continue
        median = statistics.median(ours)
        cells = [shown(figures.get((what, who, metric), []), unit) for who in ["native", "drain", "dump_restore", "pgcopydb"]]
        best = [statistics.median(figures[what, who, metric]) for who in PEERS if figures.get((what, who, metric))]
        ratio = f"{median / min(best):.2f}" if best and min(best) > 0 else ""
        busy = limits(figures, what, median) if metric == "seconds" else ""
        lines.append(f"| {name} | {shown(ours, unit)} | {' | '.join(cells)} | {ratio} | {busy} |")
    source = [
        "| CPU of the source's sessions | walferry | native |",
        "|---|---|---|",
    ]
    for what, metric, _, name in ROWS:
        ours, theirs = (figures.get((what, who, "source_cpu")) for who in ("walferry", "native"))
        if ours and theirs and metric == "seconds":
            source.append(f"| {name} | {shown(ours, 's')} | {shown(theirs, 's')} |")
    held = [
        "| what the source is kept from cleaning up, at most | walferry | native | pg_dump | pgcopydb |",
        "|---|---|---|---|---|",
    ]
    for what, metric, unit, name in HELD:
        if figures.get((what, "walferry", metric)):
            cells = [shown(figures.get((what, who, metric), []), unit) for who in ["walferry", *PEERS]]
            held.append(f"| {name} | {' | '.join(cells)} |")
    cost = ["| instructions of walferry per row | in all | decode | plan | encode |", "|---|---|---|---|---|"]
    for what in sorted({what for what, _, metric in figures if metric == "instructions"}):
        values = [number(figures[what, "walferry", metric][0]) for metric in ("instructions", "decode", "plan", "encode")]
        cost.append(f"| {what.removeprefix('cpu ').replace('_', ' ')} | {' | '.join(values)} |")
    blocks = [lines] + [block for block in (source, held, cost) if len(block) > 2]
    return "\n\n".join("\n".join(block) for block in blocks)


def main():
    figures = collections.defaultdict(list)
    with open(sys.argv[1], encoding="utf-8") as results:
        for line in results:
            what, who, metric, value = line.rstrip("\n").split("\t")
            figures[what, who, metric].append(float(value))
    text = "".join(f"{line.strip()}  \n" for line in sys.stdin) + "\n" + table(figures) + "\n"
    if len(sys.argv) < 3:
        print(text)
        return
    with open(sys.argv[2], encoding="utf-8") as document:
        before, rest = document.read().split("<!-- figures -->\n")
        after = rest.split("<!-- /figures -->")[1]
    with open(sys.argv[2], "w", encoding="utf-8") as document:
        document.write(f"{before}<!-- figures -->\n{text}<!-- /figures -->{after}")


main()
