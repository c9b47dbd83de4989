# How the cost of a copy grows: the same work at 1, 10 and 100 times the size, at 1 to 8 jobs. Sourced by scripts/bench.

bench_growth() {
    local rows count sessions
    for rows in 1000000 10000000 100000000; do
        [ "$rows" -le "$(times 100000000 "$scale")" ] || break
        say "growth: $rows rows"
        fresh source copyset
        sql_file source copyset benches/workloads/narrow.sql -v rows="$rows"
        growth_copy "rows $rows"
    done
    for count in 10 1000 10000; do
        [ "$count" -le "$(times 10000 "$scale")" ] || break
        say "growth: $count tables"
        fresh source copyset
        sql_file source copyset benches/workloads/many_tables/tables.sql -v scale="$(awk -v n="$count" 'BEGIN { print n / 10000 }')"
        growth_copy "tables $count"
    done
    fresh source copyset
    sql_file source copyset benches/workloads/narrow.sql -v rows="$(times 10000000 "$scale")"
    local before=$jobs
    for sessions in 1 2 4 8; do
        jobs=$sessions
        growth_copy "jobs $sessions"
    done
    jobs=$before
    python3 benches/growth.py "$results" docs/growth.svg
}

growth_copy() { # what
    local began
    fresh target copied
    settle
    began=$(now)
    copy_by_walferry >"$work/copy.log" 2>&1 || { cat "$work/copy.log" >&2; die "the copy failed"; }
    began=$(minus "$(now)" "$began")
    if equal copyset copied; then note "growth $1" walferry seconds "$began"; else unequal "growth $1" walferry; fi
}
