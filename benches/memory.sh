# Peak memory of walferry's process tree in the cases that tempt a program to hold everything. Sourced by scripts/bench.

bench_memory() {
    memory_case large_transaction "narrow_inserts" \
        "INSERT INTO narrow SELECT n, 1, md5(n::text), now() FROM generate_series(1000000, 1000000 + $(times 10000000 "$scale") - 1) n"
    memory_case backlog "narrow_inserts" \
        "DO \$\$ BEGIN FOR p IN 1 .. $(times 10000 "$scale") LOOP INSERT INTO narrow SELECT p * 1000 + 1000000 + n, 1, md5(n::text), now() FROM generate_series(0, 999) n; COMMIT; END LOOP; END \$\$"
    memory_case rows_of_50_mb "narrow_inserts" \
        "INSERT INTO narrow SELECT n + 1000000, 1, (SELECT string_agg(md5((n * 1600000 + i)::text), '') FROM generate_series(1, 1600000) i), now() FROM generate_series(1, 5) n"
    memory_table
}

memory_case() { # name, tables of which workload, statement
    say "memory: $1"
    fresh source memory
    sql_file source memory "benches/workloads/$2/tables.sql" -v scale="$scale"
    sql source memory 'CREATE TABLE marker (id bigint PRIMARY KEY)'
    only_before=$only only=,walferry,
    catchup_prepare memory
    PGOPTIONS='-c synchronous_commit=off' sql source memory "$3"
    sql source memory 'INSERT INTO marker VALUES (1)'
    settle
    local began done_at
    began=$(now)
    walferry_start memory
    done_at=$(marker_seen memory_walferry 1)
    if equal memory memory_walferry; then
        note "memory $1" walferry peak_mb "$(peak_of "$walferry_pid")"
        note "memory $1" walferry seconds "$(minus "$done_at" "$began")"
    else
        unequal "memory $1" walferry
    fi
    walferry_stop
    catchup_remove memory
    only=$only_before
}

# A table of 5 GB, copied. The process tree's peak is the largest of its processes plus what pg_dump took before: /usr/bin/time
# reports the largest, which is what counts here.
memory_table() {
    say "memory: a large table"
    fresh source memory
    sql source memory "CREATE TABLE large (id bigint PRIMARY KEY, filler text);
        INSERT INTO large SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, $(times 5000000 "$scale")) n"
    fresh target copied
    /usr/bin/time -v -o "$work/copy.time" "$walferry" copy --source "$(uri source memory)" --target "$(uri target copied)" --jobs "$jobs" \
        "${settings[@]}" >"$work/copy.log" 2>&1 || { cat "$work/copy.log" >&2; die "the copy failed"; }
    if equal memory copied; then
        note 'memory large_table' walferry peak_mb "$(sed -n 's/.*Maximum resident.*: //p' "$work/copy.time" | awk '{ printf "%d", $1 / 1024 }')"
    else
        unequal 'memory large_table' walferry
    fi
    fresh target copied
    fresh source memory
}
