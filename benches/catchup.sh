# A backlog, applied: by walferry, by native logical replication, and read to nowhere (what the source can deliver at most).
# Sourced by scripts/bench.
#
# One backlog serves all: each contender has a slot of its own, made before it. A run is timed from the start of the process (native:
# from ALTER SUBSCRIPTION … ENABLE) to the commit of the backlog's last transaction on the target. Native at its best: binary,
# streaming of large transactions (parallel from 16 on), synchronous_commit = off.

workloads() { (cd benches/workloads && ls -d */ | tr -d / | paste -sd,); }

bench_catchup() { # names, by commas
    local name
    for name in ${1//,/ }; do
        [ -d "benches/workloads/$name" ] || die "no workload $name in benches/workloads"
        catchup_workload "$name"
    done
}

catchup_workload() { # name
    local name=$1 round who order
    say "catchup $name: preparing"
    fresh source "$name"
    sql_file source "$name" "benches/workloads/$name/tables.sql" -v scale="$scale"
    sql source "$name" "CREATE TABLE marker (id bigint PRIMARY KEY)"
    sql source "$name" "VACUUM (ANALYZE)"
    catchup_prepare "$name"
    # Nothing but the marker: what starting costs, and both are warm afterwards.
    catchup_round "$name" 0 start
    for ((round = 1; round <= rounds; round++)); do
        say "catchup $name: load $round"
        source "benches/workloads/$name/load.sh"
        catchup_round "$name" "$round" seconds
    done
    catchup_remove "$name"
}

catchup_prepare() { # name
    local name=$1
    fresh target "${name}_native"
    fresh target "${name}_walferry"
    sql source "$name" 'CREATE PUBLICATION native FOR ALL TABLES'
    sql source "$name" "SELECT pg_create_logical_replication_slot('drain', 'pgoutput')" >/dev/null
    if wants native; then
        local streaming=on copy=true
        # Its first copies would take minutes, and the tables are empty.
        [ "$name" != many_tables ] || copy=false
        [ "$to" -lt 16 ] || streaming=parallel
        pg_dump -s --no-publications "$(uri source "$name")" | psql -Xq "$(uri target "${name}_native")" >/dev/null 2>&1
        sql target "${name}_native" "CREATE SUBSCRIPTION native CONNECTION '$(uri source "$name")' PUBLICATION native
            WITH (binary = on, streaming = $streaming, copy_data = $copy)" 2>/dev/null
        until [ "$(sql target "${name}_native" "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel")" = t ]; do sleep 0.2; done
        sql target "${name}_native" 'ALTER SUBSCRIPTION native DISABLE'
        sql target "${name}_native" ANALYZE
    fi
    walferry_start "$name" replicate
    until [ "$(sql target "${name}_walferry" "SELECT step FROM walferry.runs" 2>/dev/null)" = live ]; do
        kill -0 "$walferry_pid" 2>/dev/null || { cat "$work/walferry.log" >&2; die "walferry ended"; }
        sleep 0.2
    done
    walferry_stop
    sql target "${name}_walferry" ANALYZE
}

catchup_remove() { # name
    ! wants native || sql target "${1}_native" 'DROP SUBSCRIPTION native' 2>/dev/null
    "$walferry" clean --source "$(uri source "$1")" --target "$(uri target "${1}_walferry")" >/dev/null || true
    sql source "$1" "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '$1'" >/dev/null
    sql source postgres "DROP DATABASE $1 WITH (FORCE)"
    sql target postgres "DROP DATABASE ${1}_native WITH (FORCE)"
    sql target postgres "DROP DATABASE ${1}_walferry WITH (FORCE)"
}

walferry_start() { # name
    "$walferry" replicate --source "$(uri source "$1")" --target "$(uri target "${1}_walferry")" --keyless inserts --jobs "$jobs" \
        --log-format text --progress never "${settings[@]}" >"$work/walferry.log" 2>&1 &
    walferry_pid=$!
}
walferry_stop() {
    kill "$walferry_pid"
    wait "$walferry_pid" || true
    walferry_pid=
}

catchup_round() { # name, round, metric
    local name=$1 round=$2 metric=$3 end who
    sql source "$name" "INSERT INTO marker VALUES ($round)"
    end=$(sql source "$name" 'SELECT pg_current_wal_lsn()')
    settle
    if wants drain; then catchup_drain "$name" "$metric" "$end"; fi
    for who in $(if ((round % 2)); then echo walferry native; else echo native walferry; fi); do
        wants "$who" || [ "$who" = walferry ] || continue
        settle
        "catchup_$who" "$name" "$round" "$metric"
        equal "$name" "${name}_$who" || { unequal "$name" "$who"; sed -i "\${/^$name\t$who\t/d}" "$results"; }
    done
}

catchup_drain() { # name, metric, end
    local began
    began=$(now)
    pg_recvlogical -d "$(uri source "$1")" --slot drain --start -f /dev/null --endpos "$3" -F 0 -o proto_version=1 -o publication_names=native
    [ "$2" = untimed ] || note "$1" drain "$2" "$(minus "$(now)" "$began")"
}

# The time at which the marker was seen on the target, to 5 ms (native's commit timestamps are the source's); fails after ten minutes. Each
# look is a transaction of its own: one snapshot all the time would keep the target from pruning rows that are updated again and again.
marker_seen() { # database, round
    psql -XAtq -v ON_ERROR_STOP=1 "$(uri target "$1")" <<SQL || die "$1: the backlog is not applied after ten minutes"
SET statement_timeout = '10min';
DO \$\$ BEGIN WHILE NOT EXISTS (SELECT FROM marker WHERE id = $2) LOOP COMMIT; PERFORM pg_sleep(0.005); END LOOP; END \$\$;
SELECT extract(epoch FROM clock_timestamp());
SQL
}

catchup_native() { # name, round, metric
    local began done_at sender worker
    began=$(now)
    sql target "$1_native" 'ALTER SUBSCRIPTION native ENABLE'
    done_at=$(marker_seen "$1_native" "$2")
    sender=$(sql source "$1" "SELECT pid FROM pg_stat_replication WHERE application_name = 'native'")
    worker=$(sql target "$1_native" "SELECT pid FROM pg_stat_subscription WHERE subname = 'native' AND relid IS NULL LIMIT 1")
    catchup_note "$1" native "$3" "$(minus "$done_at" "$began")" "$sender" "$worker"
    slot_moves "$1" native
    sql target "$1_native" 'ALTER SUBSCRIPTION native DISABLE'
    until [ -z "$(sql source "$1" "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'native' AND active")" ]; do sleep 0.05; done
}

catchup_walferry() { # name, round, metric
    local began done_at sender worker
    began=$(now)
    walferry_start "$1"
    done_at=$(marker_seen "$1_walferry" "$2")
    sender=$(sql source "$1" "SELECT pid FROM pg_stat_replication WHERE application_name = 'walferry'")
    worker=$(sql target "$1_walferry" "SELECT pid FROM pg_stat_activity WHERE application_name = 'walferry' AND backend_type = 'client backend' LIMIT 1")
    catchup_note "$1" walferry "$3" "$(minus "$done_at" "$began")" "$sender" "$worker"
    [ "$3" != seconds ] || note "$1" walferry own_cpu "$(cpu_of "$walferry_pid")"
    [ "$3" != seconds ] || note "$1" walferry peak_mb "$(peak_of "$walferry_pid")"
    slot_moves "$1" walferry
    walferry_stop
}

# Where decoding begins next time is not where the reader stands, but the last record of running transactions before it, as far as it has been
# told. Waits until that is behind all that was applied: otherwise one of the contenders decodes the backlog before as well, the other one not.
slot_moves() { # name, slot
    local end deadline=$((SECONDS + 60))
    end=$(sql source "$1" 'SELECT pg_current_wal_lsn()')
    until [ "$(sql source "$1" "SELECT restart_lsn >= '$end' FROM pg_replication_slots WHERE slot_name = '$2'")" = t ]; do
        [ $SECONDS -lt $deadline ] || die "$1: slot $2 does not move"
        sql source "$1" CHECKPOINT
        sleep 0.1
    done
}

catchup_note() { # name, who, metric, seconds, walsender, apply backend
    say "catchup $1: $2 $3 $4"
    [ "$3" != untimed ] || return 0
    note "$1" "$2" "$3" "$4"
    [ "$3" = seconds ] || return 0
    note "$1" "$2" source_cpu "$(cpu_of "$5")"
    note "$1" "$2" apply_cpu "$(cpu_of "$6")"
}
