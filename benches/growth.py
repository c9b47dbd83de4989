#!/usr/bin/env python3
"""docs/growth.svg, from the figures that `scripts/bench growth` has noted: growth.py RESULTS DOCUMENT.svg

Three panels: seconds of a copy against rows and tables (both axes logarithmic: linear growth is a line that rises by 45 degrees, shown
dashed through the first point), and against jobs.
"""
import collections
import math
import statistics
import sys

WIDTH, HEIGHT, LEFT, TOP, SIZE = 900, 300, 60, 40, 200


def read(path):
    series = collections.defaultdict(lambda: collections.defaultdict(list))
    with open(path, encoding="utf-8") as results:
        for line in results:
            what, _, metric, value = line.rstrip("\n").split("\t")
            words = what.split()
            if words[0] == "growth" and metric == "seconds":
                series[words[1]][int(words[2])].append(float(value))
    return {name: sorted((x, statistics.median(y)) for x, y in points.items()) for name, points in series.items()}


def scale(values):
    """Whole powers of ten around the values, and the place of a value between them."""
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)
    return range(low, high + 1), lambda value: (math.log10(value) - low) / (high - low)


def power(n):
    return f"{10 ** n:,}" if n >= 0 else f"{10.0 ** n:g}"


def panel(number, title, points):
    left = LEFT + number * 290
    xs, ys = [x for x, _ in points], [y for _, y in points]
    across, along = scale(xs)
    up, above = scale(ys)
    place = lambda x, y: (left + SIZE * along(x), TOP + SIZE * (1 - above(y)))
    out = [f'<text x="{left}" y="{TOP - 14}" font-weight="bold">{title}</text>']
    out.append(f'<rect x="{left}" y="{TOP}" width="{SIZE}" height="{SIZE}" fill="none" stroke="#888"/>')
    for n in across:
        x, _ = place(10.0**n, ys[0])
        out.append(f'<text x="{x:.0f}" y="{TOP + SIZE + 16}" text-anchor="middle">{power(n)}</text>')
    for n in up:
        _, y = place(xs[0], 10.0**n)
        out.append(f'<text x="{left - 4}" y="{y + 4:.0f}" text-anchor="end">{power(n)} s</text>')
    first, last = points[0], points[-1][0]
    if title != "jobs":
        ends = [(first[0], first[1]), (last, min(first[1] * last / first[0], 10.0 ** up[-1]))]
        if ends[1][1] < first[1] * last / first[0]:
            ends[1] = (first[0] * ends[1][1] / first[1], ends[1][1])
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*end) for end in ends))
        out.append(f'<polyline points="{line}" fill="none" stroke="#888" stroke-dasharray="4 4"/>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    out.append(f'<polyline points="{line}" fill="none" stroke="#0b6" stroke-width="2"/>')
    for point in points:
        x, y = place(*point)
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#0b6"/>')
        out.append(f'<text x="{x:.1f}" y="{y - 7:.1f}" text-anchor="middle" font-size="10">{point[1]:.3g}</text>')
    return "\n".join(out)


def main():
    series = read(sys.argv[1])
    panels = [panel(n, name, series[name]) for n, name in enumerate(name for name in ("rows", "tables", "jobs") if name in series)]
    with open(sys.argv[2], "w", encoding="utf-8") as document:
        document.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11">\n'
            f'<title>Seconds of a copy against rows, tables and jobs; dashed: linear</title>\n<rect width="100%" height="100%" fill="#fff"/>\n'
            + "\n".join(panels)
            + "\n</svg>\n"
        )


main()
