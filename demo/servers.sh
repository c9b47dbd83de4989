# The servers of the demo, its application, and how all of it is taken away again. Sourced by scripts/demo.

work=$(mktemp -d /tmp/walferry-demo.XXXXXX) servers=$work/servers
# Processes of ours, by what they are; the last one started ends first.
load= processes=() shown= began=$(milliseconds)
as_server() { if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi; }
end() { [ -z "$1" ] || { kill "$1" && wait "$1"; } 2>/dev/null || true; }
leave() {
    local code=$? pid
    trap - EXIT ERR
    end "$shown" && end "$load"
    for pid in "${processes[@]}"; do end "$pid"; done
    if [ $code -eq 0 ] && [ -n "$keep" ]; then
        printf '\nKept in %s. To look around: source %s\nTo remove it: %s\n' "$work" "$work/env" "$work/remove"
        return
    fi
    "$work/remove" servers
    if [ $code -eq 0 ]; then
        rm -rf "$work"
    else
        printf '\n%sThe demo failed in step %d (exit code %d).%s What the programs said:\n' "$bold" $step $code "$plain" >&2
        find "$work" -name '*.log' -size +0 -printf '  %p\n' >&2
        echo "Remove them with: rm -r $work" >&2
    fi
    exit $code
}
fail() { printf '\ndemo: %s\n' "$1" >&2 && trap - ERR && exit 1; }

# The folder, and a password that is in no command line (PGPASSWORD).
chmod 711 "$work" && mkdir "$servers"
cat >"$work/remove" <<REMOVE
#!/bin/sh
for pid in $servers/*/postmaster.pid; do [ ! -e "\$pid" ] || kill -QUIT "\$(head -1 "\$pid")"; done
[ ! -e $servers/kafka.pid ] || kill -KILL "\$(cat $servers/kafka.pid)"
if [ "\$1" = servers ]; then
    for folder in $servers/*/; do rm -rf "\$folder"; done
else
    rm -rf $work
fi
REMOVE
chmod 700 "$work/remove"
trap leave EXIT
trap 'echo "demo: line $LINENO: $BASH_COMMAND: exit code $?" >&2' ERR
PGPASSWORD=$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n') && export PGPASSWORD
(umask 077 && echo "$PGPASSWORD" >"$servers/password")
[ "$(id -u)" != 0 ] || chown postgres "$servers" "$servers/password"
newest=$(compgen -v WALFERRY_PG_ | sed -n 's/^WALFERRY_PG_\([0-9]*\)$/\1/p' | sort -n | tail -1)
newest_programs=WALFERRY_PG_$newest newest_programs=${!newest_programs}
# The server that the application works on when an act is over; the next act goes on with it.
primary=

# Below the ports that the system gives to clients.
free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)) && (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo $port
}
server() { # name, folder with the programs, port, options
    as_server "$2/initdb" -D "$servers/$1" -U postgres -A scram-sha-256 --pwfile "$servers/password" \
        -E UTF8 --locale C.UTF-8 >"$work/$1.initdb.log"
    as_server "$2/pg_ctl" -D "$servers/$1" -l "$servers/$1.log" -w -s start \
        -o "-p $3 -c listen_addresses=127.0.0.1 -c unix_socket_directories='' $4"
    psql -Xq "postgresql://postgres@127.0.0.1:$3/postgres" -c 'CREATE DATABASE inventory'
}
uri() { echo "postgresql://postgres@127.0.0.1:$1/inventory"; }
version() { psql -XAtq "$1" -c 'SHOW server_version' | cut -d' ' -f1; }
# Fills demo/schema.sql; sets rows_made and size.
fill() { # uri
    local devices tables
    devices=$((rows > 1000 ? (rows - 106) * 100 / 835 : 100))
    psql -Xq -v ON_ERROR_STOP=1 -v devices=$devices "$1" -f demo/schema.sql -f demo/data.sql
    tables=$(psql -XAtq "$1" -c "SELECT string_agg(format('SELECT count(*) FROM %I', relname), ' UNION ALL ')
        FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition")
    rows_made=$(psql -XAtq "$1" -c "SELECT sum(count) FROM ($tables) t")
    size=$(psql -XAtq "$1" -c 'SELECT pg_size_pretty(pg_database_size(current_database()))')
}
# What somebody needs who looks around: source, target, the programs.
write_env() {
    (umask 077 && cat >"$work/env") <<ENV
export WALFERRY_SOURCE=$WALFERRY_SOURCE WALFERRY_TARGET=$WALFERRY_TARGET PGPASSWORD=$PGPASSWORD
${WALFERRY_KAFKA_BROKERS:+export WALFERRY_KAFKA_BROKERS=$WALFERRY_KAFKA_BROKERS}
export PATH=$PATH
ENV
}

# The application ------------------------------------------------------------------------------------------------
count() { sed -n "s/^$1=//p" "$work/counts" 2>/dev/null || true; }
start_load() { # primary, where to go when it has moved
    rm -f "$work/counts"
    inventory_load "$1" "$2" --hold --counts "$work/counts" 2>"$work/load.log" &
    load=$!
    wait_for_load committed 100
}
wait_for_load() { # name, at least
    local deadline=$((SECONDS + 60))
    until [ "$(count "$1")" ] && [ "$(count "$1")" -ge "$2" ]; do
        kill -0 "$load" 2>/dev/null || fail "the application ended: see $work/load.log"
        [ $SECONDS -lt $deadline ] || fail "the application does not get on ($1=$(count "$1")): see $work/load.log"
        sleep 0.02
    done
}
end_load() {
    kill $load && wait $load || fail "the application met an error: see $work/load.log"
    load=
}
# Inserts a device into the source while somebody watches for it on the target; sets delay.
arrival() { # service tag, log that says why it did not arrive
    local insert watch sent arrived _watching
    insert="INSERT INTO devices(service_tag,device_name,device_type_id,model,ip_address,health_status)
              VALUES('$1','test.local',1,'PowerEdge R750','10.99.1.1','OK')"
    show "psql \$WALFERRY_SOURCE -c \"$insert\""
    exec {watch}< <(exec psql -XAtq "$WALFERRY_TARGET" -v tag="$1" -f demo/arrival.sql 2>"$work/arrival.log")
    read -r -u $watch _watching
    sent=$(psql -XAtq "$WALFERRY_SOURCE" -c 'SELECT round(extract(epoch FROM clock_timestamp()) * 1000)' -c "$insert")
    read -r -u $watch arrived || fail "the row did not arrive within 60 s: see $2"
    exec {watch}<&-
    delay=$((arrived - sent))
}

# Kafka ------------------------------------------------------------------------------------------------------------
# One node on a port of its own; answers when this returns. Again: on the same port and data.
kafka_start() {
    local folder=$servers/kafka deadline=$((SECONDS + 60))
    if [ ! -e "$folder" ]; then
        mkdir -p "$folder/data" && cp "$WALFERRY_KAFKA"/formatted/{meta.properties,bootstrap.checkpoint} "$folder/data"
        kafka_port=$(free_port) && controller_port=$(free_port)
        cat >"$folder/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=PLAINTEXT://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$kafka_port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$folder/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
# Killed and started again within a moment: the node that it was is not waited for.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
PROPERTIES
    fi
    java -Xmx512m -XX:TieredStopAtLevel=1 -cp "$WALFERRY_KAFKA/libs/*" kafka.Kafka "$folder/server.properties" >>"$work/kafka.log" 2>&1 &
    kafka=$!
    disown $kafka
    echo $kafka >"$servers/kafka.pid"
    until kcat -b "127.0.0.1:$kafka_port" -L -m 2 >"$work/kcat.log" 2>&1; do
        kill -0 $kafka 2>/dev/null || fail "Kafka ended: see $work/kafka.log"
        [ $SECONDS -lt $deadline ] || fail "Kafka does not answer after a minute: see $work/kafka.log"
        sleep 0.1
    done
}
