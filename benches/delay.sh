# From commit on the source to commit on the target, by the times in both servers' commit records (one machine, one clock). They are read
# from the WAL: the commit timestamps that the target's SQL shows are, for native replication, the source's.
# Sourced by scripts/bench.

bench_delay() {
    local round who
    say "delay: preparing"
    fresh source delay
    sql_file source delay benches/workloads/tpcb/tables.sql
    sql source delay 'CREATE TABLE ping (id bigserial PRIMARY KEY); CREATE TABLE marker (id bigint PRIMARY KEY)'
    sql source delay 'VACUUM (ANALYZE)'
    catchup_prepare delay
    delay_scripts
    for ((round = 1; round <= rounds; round++)); do
        for who in $(if ((round % 2)); then echo walferry native; else echo native walferry; fi); do
            wants "$who" || continue
            delay_start "$who"
            delay_load "$who" idle 20 400 1
            delay_load "$who" busy 500 "$(times 7500 "$scale")" 4
            delay_stop "$who"
        done
    done
    catchup_remove delay
}

delay_scripts() {
    # An insert 20 times a second, and TPC-B at 500 a second with such an insert in each.
    echo 'INSERT INTO ping DEFAULT VALUES;' >"$work/idle.sql"
    cat >"$work/busy.sql" <<'SQL'
\set aid random(1, 1000000)
\set bid random(1, 10)
\set tid random(1, 100)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
INSERT INTO ping DEFAULT VALUES;
END;
SQL
}

delay_start() { # who
    delay_marker
    if [ "$1" = native ]; then sql target delay_native 'ALTER SUBSCRIPTION native ENABLE'; else walferry_start delay; fi
    delay_caught_up "$1"
}
# The one that delay_caught_up waits for.
delay_marker() { sql source delay 'INSERT INTO marker SELECT coalesce(max(id), 0) + 1 FROM marker'; }
delay_caught_up() { # who
    marker_seen "delay_$1" "$(sql source delay 'SELECT max(id) FROM marker')" >/dev/null
}
delay_load() { # who, kind, rate, transactions, clients
    local first source_from target_from
    source_from=$(sql source delay 'SELECT pg_current_wal_lsn()')
    target_from=$(sql target delay_"$1" 'SELECT pg_current_wal_lsn()')
    first=$(sql source delay 'SELECT coalesce(max(id), 0) FROM ping')
    held_start
    pgbench -n -f "$work/$2.sql" -R "$3" -c "$5" -j 1 -t $(($4 / $5)) "$(uri source delay)" >/dev/null 2>&1
    held_stop "${delay_what:-delay} $2" "$1" retained_mb catalog_age
    delay_marker
    delay_caught_up "$1"
    delay_commits source delay "$first" "$source_from" >"$work/sent"
    delay_commits target "delay_$1" "$first" "$target_from" >"$work/seen"
    join -j1 "$work/sent" "$work/seen" | awk '{ print ($3 - $2) * 1000 }' | sort -g >"$work/delays"
    [ "$(wc -l <"$work/delays")" = "$(wc -l <"$work/sent")" ] || die "delay: rows are missing"
    awk '{ v[NR] = $1 } END { print v[int(NR * 0.5) + 1], v[int(NR * 0.99) + 1] }' "$work/delays" >"$work/percentiles"
    say "delay: $1 $2 p50, p99 in ms: $(cat "$work/percentiles")"
    note "${delay_what:-delay} $2" "$1" p50_ms "$(cut -d' ' -f1 "$work/percentiles")"
    note "${delay_what:-delay} $2" "$1" p99_ms "$(cut -d' ' -f2 "$work/percentiles")"
}
# "id seconds" of each ping's commit record.
delay_commits() { # side, database, first id, WAL position before
    local end
    # A synchronous commit, which flushes what lies before it.
    sql "$1" postgres "SELECT pg_logical_emit_message(true, 'bench', '')" >/dev/null
    end=$(sql "$1" postgres 'SELECT pg_current_wal_flush_lsn()')
    join -j1 -o 1.2,2.2 \
        <(sql "$1" "$2" "COPY (SELECT xmin, id FROM ping WHERE id > $3) TO STDOUT (DELIMITER ' ')" | sort -k1b,1) \
        <(as_server "${folder[$1]}/pg_waldump" -p "$work/servers/$1/pg_wal" -r Transaction -s "$4" -e "$end" 2>/dev/null |
            sed -n 's/.* tx: *\([0-9]*\),.* COMMIT [0-9-]* \([0-9]*\):\([0-9]*\):\([0-9.]*\) .*/\1 \2 \3 \4/p' |
            awk '{ printf "%s %.6f\n", $1, $2 * 3600 + $3 * 60 + $4 }' | sort -k1b,1) | sort -k1b,1
}
delay_stop() { # who
    equal delay "delay_$1" || unequal delay "$1"
    if [ "$1" = native ]; then sql target delay_native 'ALTER SUBSCRIPTION native DISABLE'; sleep 1; else walferry_stop; fi
}
