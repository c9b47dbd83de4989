# The copy of a whole data set, indexes and constraints included. Sourced by scripts/bench.
#
# Peers at their best: pg_dump -Fd -j with no compression, then pg_restore -j; pgcopydb with as many table and index jobs; native initial
# synchronisation into tables without indexes, which pg_restore -j builds afterwards.

bench_copy() {
    local round who at all=(walferry dump_restore pgcopydb native)
    say "copy: making the data set"
    fresh source copyset
    pgbench -i -q -s "$(times 40 "$scale")" "$(uri source copyset)" 2>/dev/null
    sql_file source copyset benches/workloads/wide.sql -v rows="$(times 500000 "$scale")"
    sql source copyset 'VACUUM (ANALYZE)'
    note copy source bytes_mb "$(sql source copyset "SELECT pg_database_size('copyset') / 1048576")"
    for ((round = 1; round <= rounds; round++)); do
        # Each is first in its turn: what was written before is still on its way to the disk.
        for at in 0 1 2 3; do
            who=${all[$(((at + round) % 4))]}
            ! wants "$who" || copy_once "$who" "$round"
        done
    done
    sql source postgres 'DROP DATABASE copyset WITH (FORCE)'
}

copy_once() { # who, round
    local who=$1 began wall source_cpu target_cpu
    fresh target copied
    settle
    rm -rf "$work/dump"
    source_cpu=$(cpu_of_server source) target_cpu=$(cpu_of_server target)
    held_start
    began=$(now)
    "copy_by_$who" >"$work/copy.$who.log" 2>&1 || { cat "$work/copy.$who.log" >&2; die "copy by $who failed"; }
    wall=$(minus "$(now)" "$began")
    source_cpu=$(minus "$(cpu_of_server source)" "$source_cpu") target_cpu=$(minus "$(cpu_of_server target)" "$target_cpu")
    held_stop copy "$who" snapshot_s
    copy_clean "$who"
    say "copy: $who $wall s"
    if equal copyset copied && [ "$(copy_schema source copyset)" = "$(copy_schema target copied)" ]; then
        note copy "$who" seconds "$wall"
        note copy "$who" source_cpu "$source_cpu"
        note copy "$who" target_cpu "$target_cpu"
        [ "$who" != walferry ] || note copy walferry peak_mb "$(sed -n 's/.*Maximum resident.*: //p' "$work/copy.time" | awk '{ printf "%d", $1 / 1024 }')"
    else
        unequal copy "$who"
    fi
}

copy_schema() { # side, database
    sql "$1" "$2" "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1;
        SELECT conname, conrelid::regclass, contype, convalidated FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n' ORDER BY 1, 2"
}

copy_by_walferry() {
    /usr/bin/time -v -o "$work/copy.time" "$walferry" copy --source "$(uri source copyset)" --target "$(uri target copied)" --jobs "$jobs" "${settings[@]}"
}
copy_by_dump_restore() {
    pg_dump -Fd -Z0 -j "$jobs" -f "$work/dump" "$(uri source copyset)"
    pg_restore -j "$jobs" -d "$(uri target copied)" "$work/dump"
}
copy_by_pgcopydb() {
    PATH=${folder[target]}:$PATH pgcopydb copy-db --dir "$work/dump" --skip-large-objects --table-jobs "$jobs" --index-jobs "$jobs" \
        --source "$(uri source copyset)" --target "$(uri target copied)"
}
copy_by_native() {
    pg_dump -Fc -s -f "$work/schema" "$(uri source copyset)"
    pg_restore --section=pre-data -d "$(uri target copied)" "$work/schema"
    sql source copyset 'CREATE PUBLICATION native FOR ALL TABLES'
    sql target copied "CREATE SUBSCRIPTION native_copy CONNECTION '$(uri source copyset)' PUBLICATION native WITH (binary = on)"
    until [ "$(sql target copied "SELECT bool_and(srsubstate IN ('r', 's')) FROM pg_subscription_rel")" = t ]; do sleep 0.05; done
    pg_restore --section=post-data -j "$jobs" -d "$(uri target copied)" "$work/schema"
}
copy_clean() { # who
    [ "$1" = native ] || return 0
    sql target copied 'DROP SUBSCRIPTION native_copy' 2>/dev/null
    sql source copyset 'DROP PUBLICATION native'
}
