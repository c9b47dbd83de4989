# Two throw-away servers with the same settings, and what is asked of them. Sourced by scripts/bench.

say() { echo "bench: $*" >&2; }
die() { say "$*"; exit 1; }
as_server() { if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi; }
# Below the ports that the system gives to clients.
free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)) && (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo $port
}
now() { echo "$EPOCHREALTIME"; }
minus() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a - b }'; }
times() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%d", a * b < 1 ? 1 : a * b }'; }
wants() { [ -z "$only" ] || [[ $only == *,$1,* ]]; }

# Both sides alike: durable, memory for a machine of a few GB, no checkpoint or vacuum in the middle of a timed run. Up to 15 the launcher
# starts no apply worker within wal_retrieve_retry_interval of another one, 5 s as it comes: native would wait that long in some rounds.
server_settings() {
    cat <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = on
wal_level = logical
shared_buffers = 1GB
maintenance_work_mem = 256MB
max_parallel_maintenance_workers = 2
max_wal_size = 16GB
min_wal_size = 2GB
wal_keep_size = 2GB
checkpoint_timeout = 1h
autovacuum = off
track_commit_timestamp = on
max_wal_senders = 20
max_replication_slots = 20
max_connections = 100
max_locks_per_transaction = 1024
max_logical_replication_workers = 8
max_sync_workers_per_subscription = $jobs
wal_retrieve_retry_interval = 100ms
CONF
}

servers_start() {
    work=$(mktemp -d "${BENCH_DIR:-/var/tmp}/walferry-bench.XXXXXX")
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    chmod 755 "$work"
    results=$work/results
    : >"$results"
    declare -gA port folder
    mkdir "$work/servers"
    [ "$(id -u)" != 0 ] || chown postgres "$work/servers"
    server source "$from"
    server target "$to"
    PATH=$WALFERRY_PG_BIN:$PATH
    # What a newer pg_dump writes an older server may not take.
    [ ! -x "${folder[target]}/pg_restore" ] || PATH=${folder[target]}:$PATH
}

server() { # side, major
    local programs=WALFERRY_PG_$2 side=$1
    [ -n "${!programs:-}" ] || die "PostgreSQL $2 is not there: scripts/setup --all-majors"
    folder[$side]=${!programs}
    port[$side]=$(free_port)
    as_server "${!programs}/initdb" -D "$work/servers/$side" -U postgres -A trust -E UTF8 --locale C.UTF-8 >"$work/$side.initdb.log"
    server_settings | as_server tee -a "$work/servers/$side/postgresql.conf" >/dev/null
    as_server "${!programs}/pg_ctl" -D "$work/servers/$side" -l "$work/servers/$side.log" -w -s start -o "-p ${port[$side]}"
}

leave() {
    local code=$? pid
    trap - EXIT
    for pid in ${walferry_pid:-} ${reader_pid:-} ${writer_pid:-} ${held_pid:-}; do kill "$pid" 2>/dev/null || true; done
    for pid in ${connect_pid:-} ${broker_pid:-}; do kill -KILL "$pid" 2>/dev/null || true; done
    if [ -n "$keep" ] || [ $code -ne 0 ]; then
        say "left in $work; source $(uri source postgres), target $(uri target postgres)"
        [ -n "$keep" ] || servers_stop
    else
        servers_stop
        rm -rf "$work"
    fi
    exit $code
}
servers_stop() {
    local side
    for side in source target; do
        [ -z "${folder[$side]:-}" ] || as_server "${folder[$side]}/pg_ctl" -D "$work/servers/$side" -m immediate -s stop || true
    done
}

uri() { echo "postgresql://postgres@127.0.0.1:${port[$1]}/$2"; }
sql() { # side, database, statement
    psql -XAtq -v ON_ERROR_STOP=1 "$(uri "$1" "$2")" -c "$3"
}
sql_file() { # side, database, file, variables…
    local side=$1 database=$2 file=$3
    shift 3
    psql -XAtq -v ON_ERROR_STOP=1 "$@" -f "$file" "$(uri "$side" "$database")" >/dev/null
}
fresh() { # side, database
    sql "$1" postgres "DROP DATABASE IF EXISTS $2 WITH (FORCE)" 2>/dev/null
    sql "$1" postgres "CREATE DATABASE $2"
}
settle() {
    sql source postgres CHECKPOINT
    sql target postgres CHECKPOINT
}

# CPU seconds of one process, of its ended children as well.
cpu_of() {
    awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); printf "%.2f", ($12 + $13) / hz }' "/proc/$1/stat" 2>/dev/null || echo 0
}
# CPU seconds of a whole server: the postmaster, what it has reaped, what runs.
cpu_of_server() { # side
    local postmaster
    postmaster=$(head -1 "$work/servers/$1/postmaster.pid")
    { cat "/proc/$postmaster/stat" && for child in $(pgrep -P "$postmaster"); do cat "/proc/$child/stat"; done; } 2>/dev/null |
        awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); sum += $12 + $13; if (NR == 1) sum += $14 + $15 } END { printf "%.2f", sum / hz }'
}
peak_of() { awk '/^VmHWM/ { printf "%d", $2 / 1024 }' "/proc/$1/status" 2>/dev/null || echo 0; }

# Are the tables of two databases equal? Independent of walferry: count and two sums of hashes over each row's text.
contents() { # side, database
    local table
    for table in $(sql "$1" "$2" "SELECT quote_ident(relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"); do
        echo "SELECT '$table', count(*), coalesce(sum(hashtextextended(t::text, 1)::numeric), 0), coalesce(sum(hashtextextended(t::text, 2)::numeric), 0) FROM $table t;"
    done | psql -XAtq -v ON_ERROR_STOP=1 "$(uri "$1" "$2")"
}
equal() { # database of the source, database of the target
    local left=$work/left right=$work/right
    contents source "$1" >"$left" &
    local other=$!
    contents target "$2" >"$right"
    wait $other
    [ -s "$left" ] && cmp -s "$left" "$right" || { diff "$left" "$right" | head -5 >&2; return 1; }
}
