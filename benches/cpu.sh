# What a row costs in walferry itself, counted: instructions under valgrind's callgrind, which no other load on the machine changes.
# Sourced by scripts/bench.
#
# Each workload is applied twice, with a backlog and with nothing; the difference is the backlog's. `decode`, `plan` and `encode` are the
# functions that do it, with all that they call. Valgrind is 50 times slower, so the backlogs are small.

bench_cpu() {
    local name
    command -v valgrind >/dev/null || die "valgrind is not there: scripts/setup --bench"
    for name in narrow_inserts narrow_updates wide_inserts wide_updates tpcb; do cpu_workload "$name"; done
}

cpu_workload() { # name
    local name=$1 before=$only scale_before=$scale round=1 none all applied
    only=,walferry, scale=0.04
    say "cpu $name"
    fresh source "$name"
    sql_file source "$name" "benches/workloads/$name/tables.sql" -v scale="$scale"
    sql source "$name" "CREATE TABLE marker (id bigint PRIMARY KEY)"
    catchup_prepare "$name"
    cpu_round "$name" 1
    none=$(cpu_total)
    applied=$(cpu_rows "$name")
    source "benches/workloads/$name/load.sh"
    cpu_round "$name" 2
    all=$(cpu_total)
    applied=$(($(cpu_rows "$name") - applied - 1))
    if equal "$name" "${name}_walferry"; then
        note "cpu $name" walferry instructions "$(per_row $((all - none)) $applied)"
        note "cpu $name" walferry decode "$(per_row "$(cpu_part 'decoder::Decoder::decode ')" $applied)"
        note "cpu $name" walferry plan "$(per_row "$(cpu_part 'apply::plan::plan ')" $applied)"
        note "cpu $name" walferry encode "$(per_row "$(cpu_part 'execute::Pipeline::send(_step)?::|encode::bind_')" $applied)"
    else
        unequal "cpu $name" walferry
    fi
    catchup_remove "$name"
    only=$before scale=$scale_before
}

per_row() { awk -v sum="$1" -v rows="$2" 'BEGIN { printf "%.1f", sum / rows }'; }

# Row changes that the run has applied so far.
cpu_rows() { sql target "$1_walferry" "SELECT inserted + updated + deleted FROM walferry.progress ORDER BY seq DESC LIMIT 1"; }

cpu_round() { # name, marker
    sql source "$1" "INSERT INTO marker VALUES ($2)"
    valgrind --tool=callgrind --callgrind-out-file="$work/callgrind" "$walferry" replicate --source "$(uri source "$1")" \
        --target "$(uri target "${1}_walferry")" --keyless inserts --progress never "${settings[@]}" >"$work/walferry.log" 2>&1 &
    walferry_pid=$!
    marker_seen "$1_walferry" "$2" >/dev/null
    walferry_stop
    callgrind_annotate --inclusive=yes --threshold=100 "$work/callgrind" >"$work/annotated" 2>/dev/null
}

cpu_total() { awk '/PROGRAM TOTALS/ { gsub(",", "", $1); print $1 }' "$work/annotated"; }
# Instructions below the functions whose names match; each stands there once for every file that code was inlined from.
cpu_part() {
    awk -v name="$1" '$0 ~ name { gsub(",", "", $1); if ($1 + 0 > most) most = $1 + 0 } END { printf "%d", most }' "$work/annotated"
}
