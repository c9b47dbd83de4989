# Figures: noted as they are measured, printed as medians and ratios at the end. Sourced by scripts/bench.

failed=
note() { # what, who, metric, value
    printf '%s\t%s\t%s\t%s\n' "$@" >>"$results"
}
unequal() { # what, who
    say "$1: the two sides differ after $2; its figure does not count"
    failed=1
}

machine() {
    echo "walferry $("$walferry" --version | cut -d' ' -f2), commit $(git rev-parse --short HEAD 2>/dev/null)$(git diff --quiet HEAD 2>/dev/null || echo ' and changes')"
    echo "$(nproc) cores $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(awk '/MemTotal/ { printf "%d GB", $2 / 1048576 }' /proc/meminfo), $(uname -sr)"
    echo "PostgreSQL $(sql source postgres 'SHOW server_version' | cut -d' ' -f1) to $(sql target postgres 'SHOW server_version' | cut -d' ' -f1), one machine, loopback; $(pgcopydb --version 2>/dev/null | head -1)"
    local of
    of="scale $scale"
    [ -z "$quick" ] || of="--quick: copy $(part_scale copy), backlogs 1, delay $(part_scale delay), memory $(part_scale memory) of full scale"
    echo "$of; medians of $rounds (least–most); walferry's settings: ${settings[*]:-as they come}"
}

# One line for each thing measured: medians of who was measured, and walferry's ratio to each. Times, memory and CPU: below 1 is better.
summary() {
    echo
    sort -t$'\t' -k1,1 -k3,3 -k2,2 -k4,4g "$results" | awk -F'\t' '
        function flush(   m) { if (n) { m = n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2; line(m, v[1], v[n]) } n = 0 }
        function line(m, low, high) {
            if (who == "walferry") ours[what, metric] = m
            key = what SUBSEP metric
            if (!(key in seen)) { seen[key] = 1; order[++count] = key }
            median[key, who] = m; spread[key, who] = low == high ? "" : sprintf(" (%.4g–%.4g)", low, high)
            names[key] = names[key] (names[key] ? "," : "") who
        }
        { if ($1 != what || $3 != metric || $2 != who) { flush(); what = $1; metric = $3; who = $2 } v[++n] = $4 }
        END {
            flush()
            printf "%-26s %-22s %-14s %s\n", "what", "metric", "who", "median (least–most), walferry / who"
            for (i = 1; i <= count; i++) {
                key = order[i]; split(key, part, SUBSEP); total = split(names[key], who_list, ",")
                for (j = 1; j <= total; j++) {
                    w = who_list[j]; ratio = ""
                    if (w != "walferry" && (key in ours) && median[key, w] > 0) ratio = sprintf("  %.2f", ours[key] / median[key, w])
                    printf "%-26s %-22s %-14s %.4g%s%s\n", part[1], part[2], w, median[key, w], spread[key, w], ratio
                }
            }
        }'
    [ -z "$failed" ] || die "some runs did not end equal"
}
