# Outbox: events a second out of a backlog, and the delay from commit to Kafka at 200 events a second: walferry outbox run beside
# Debezium's connector with its event router. Sourced by scripts/bench.
#
# One backlog of rows serves both, each with a slot and a topic of its own. Timed from the start of walferry's process (Debezium: from the
# order to its connector to run, its JVM being warm) until the topic holds the last event. Logical messages are walferry's alone.
#
# Debezium at its best: max.batch.size 8192, lz4, batches of 1 MB, polls every 50 ms; for the delay polls every 5 ms and no linger.

outbox_run() { # database, arguments…
    local database=$1
    shift
    "$walferry" outbox run --source "$(uri source "$database")" --brokers "127.0.0.1:$broker_port" --name "$database" --prefix "w_$database" \
        --set outbox.messages=bench --set table.expand.json.payload=on --set "route.topic.replacement=w_$database.\${routedByValue}" \
        --set "outbox.message_topic=w_$database.\${routedByValue}" --progress never "$@" "${settings[@]}" >"$work/$database.log" 2>&1 &
    walferry_pid=$!
}
outbox_ready() { # database
    until [ "$(sql source postgres "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '$1' AND active")" = 1 ]; do
        kill -0 "$walferry_pid" 2>/dev/null || { cat "$work/$1.log" >&2; die 'walferry ended'; }
        sleep 0.05
    done
}

router_config() { # database, poll interval, linger
    cat <<JSON
{ "connector.class": "io.debezium.connector.postgresql.PostgresConnector", "tasks.max": "1",
  "database.hostname": "127.0.0.1", "database.port": "${port[source]}", "database.user": "postgres", "database.password": "x",
  "database.dbname": "$1", "topic.prefix": "d_$1", "plugin.name": "pgoutput", "slot.name": "$1_debezium",
  "publication.name": "native", "publication.autocreate.mode": "disabled", "table.include.list": "public.outbox", "snapshot.mode": "no_data",
  "transforms": "outbox", "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
  "transforms.outbox.route.topic.replacement": "d_$1.\${routedByValue}", "transforms.outbox.table.expand.json.payload": "true",
  "key.converter": "org.apache.kafka.connect.storage.StringConverter",
  "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": "false",
  "max.batch.size": "8192", "max.queue.size": "32768", "poll.interval.ms": "$2",
  "producer.override.compression.type": "lz4", "producer.override.batch.size": "1000000", "producer.override.linger.ms": "$3",
  "topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": "1" }
JSON
}
router_ready() { # database
    until [ "$(sql source postgres "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '$1_debezium' AND active")" = 1 ]; do
        debezium_alive "$1"
        sleep 0.1
    done
}

outbox_start() { # database, who
    case $2 in
        walferry) outbox_run "$1" ;;
        debezium) rest PUT "connectors/source_$1/resume" >/dev/null ;;
    esac
}
outbox_stop() { # database, who
    case $2 in
        walferry)
            kill "$walferry_pid" 2>/dev/null || true
            wait "$walferry_pid" 2>/dev/null || true
            walferry_pid= ;;
        debezium)
            rest PUT "connectors/source_$1/stop" >/dev/null
            until [ "$(sql source postgres "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '$1_debezium' AND active")" = 0 ]; do sleep 0.1; done ;;
    esac
}

# The number of records that were written to a topic's only partition.
written() { # topic
    kcat -b "127.0.0.1:$broker_port" -Q -t "$1:0:-1" 2>/dev/null | sed -n 's/.* offset //p'
}
until_written() { # topic, records, who, database
    local deadline=$((SECONDS + 1200)) there
    until there=$(written "$1") && [ "${there:-0}" -ge "$2" ]; do
        [ $SECONDS -lt $deadline ] || die "outbox: $3 does not get on"
        [ "$3" != walferry ] || kill -0 "$walferry_pid" 2>/dev/null || { cat "$work/$4.log" >&2; die 'walferry ended'; }
        # Each look starts a few processes: ten a second are not seen in the figures.
        sleep 0.1
    done
}
outbox_contenders() { # round
    local who
    for who in $([ $(($1 % 2)) = 1 ] && echo debezium walferry || echo walferry debezium); do
        [ "$who" = walferry ] || ! wants "$who" || echo "$who"
        [ "$who" != walferry ] || echo walferry
    done
}

outbox_table() { # database
    fresh source "$1"
    sql source "$1" "CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL,
        aggregateid text NOT NULL, type text NOT NULL, payload jsonb); CREATE PUBLICATION native FOR TABLE outbox"
}
row_sql() { # how many: transactions of ten events
    cat <<SQL
DO \$\$ BEGIN FOR t IN 1..$1 / 10 LOOP
  INSERT INTO outbox (aggregatetype, aggregateid, type, payload)
    SELECT 'Order', (t * 10 + g)::text, 'OrderPlaced', jsonb_build_object('order', t, 'line', g, 'note', repeat('x', 200)) FROM generate_series(1, 10) g;
  COMMIT;
END LOOP; END \$\$
SQL
}
message_sql() {
    cat <<SQL
DO \$\$ BEGIN FOR t IN 1..$1 / 10 LOOP
  PERFORM pg_logical_emit_message(true, 'bench', jsonb_build_object('id', gen_random_uuid(), 'aggregate_type', 'Order', 'aggregate_id', t * 10 + g,
    'event_type', 'OrderPlaced', 'payload', jsonb_build_object('order', t, 'line', g, 'note', repeat('x', 200)))::text) FROM generate_series(1, 10) g;
  COMMIT;
END LOOP; END \$\$
SQL
}

bench_outbox() {
    kafka_up
    outbox_backlog
    outbox_messages
    outbox_delay
    kafka_down
}

# Makes both slots, and leaves both stopped.
outbox_prepare() { # database, poll interval, linger
    outbox_table "$1"
    outbox_run "$1"
    outbox_ready "$1"
    outbox_stop "$1" walferry
    ! wants debezium || {
        rest PUT "connectors/source_$1/config" "$(router_config "$@")" >/dev/null
        router_ready "$1"
        outbox_stop "$1" debezium
    }
}
outbox_remove() { # database
    ! wants debezium || rest DELETE "connectors/source_$1" >/dev/null
    until sql source "$1" "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '$1'" >/dev/null 2>&1; do sleep 0.2; done
    sql source postgres "DROP DATABASE $1 WITH (FORCE)"
}

outbox_backlog() {
    local events round who began total=0 name=ob_rows topic=
    events=$(times "$scale" 1000000)
    events=$((events / 10 * 10 + 10))
    say 'outbox rows: preparing'
    outbox_prepare "$name" 50 5
    # Round 0 warms Debezium's JVM.
    for ((round = 0; round <= rounds; round++)); do
        sql source "$name" "$(row_sql "$events")"
        total=$((total + events))
        for who in $(outbox_contenders "$round"); do
            topic=${who:0:1}_$name.Order
            settle
            began=$(now)
            outbox_start "$name" "$who"
            until_written "$topic" "$total" "$who" "$name"
            [ "$round" = 0 ] || note 'outbox, backlog of rows' "$who" 'events/s' "$(awk -v n="$events" -v s="$(minus "$(now)" "$began")" 'BEGIN { printf "%d", n / s }')"
            [ "$round" = 0 ] || [ "$who" != walferry ] || note 'outbox, backlog of rows' walferry 'peak memory, MB' "$(peak_of "$walferry_pid")"
            outbox_stop "$name" "$who"
        done
    done
    ! wants debezium || note 'outbox, backlog of rows' debezium 'peak memory, MB' "$(peak_of "$connect_pid")"
    for who in $(outbox_contenders 0); do
        # Every row's event, and no other, whatever came twice.
        [ "$(kcat -b "127.0.0.1:$broker_port" -C -t "${who:0:1}_$name.Order" -e -q -f '%h\n' | grep -oE 'id=[0-9a-f-]{36}' | sort -u | wc -l)" = "$total" ] ||
            { unequal 'outbox, backlog of rows' "$who"; sed -i "/^outbox, backlog of rows\t$who\t/d" "$results"; }
    done
    outbox_remove "$name"
}

outbox_messages() {
    local events round began total=0 name=ob_messages
    events=$(times "$scale" 1000000)
    events=$((events / 10 * 10 + 10))
    outbox_table "$name"
    outbox_run "$name"
    outbox_ready "$name"
    outbox_stop "$name" walferry
    for ((round = 1; round <= rounds; round++)); do
        sql source "$name" "$(message_sql "$events")"
        total=$((total + events))
        settle
        began=$(now)
        outbox_run "$name"
        until_written "w_$name.Order" "$total" walferry "$name"
        note 'outbox, backlog of messages' walferry 'events/s' "$(awk -v n="$events" -v s="$(minus "$(now)" "$began")" 'BEGIN { printf "%d", n / s }')"
        note 'outbox, backlog of messages' walferry 'peak memory, MB' "$(peak_of "$walferry_pid")"
        outbox_stop "$name" walferry
    done
    only=,walferry, outbox_remove "$name"
}

# The topic takes the broker's time of arrival; the event carries the source's clock as of its transaction's only statement.
outbox_delay() {
    local name=ob_delay seconds round who topic from count
    seconds=$(times "$scale" 20)
    [ "$seconds" -ge 5 ] || seconds=5
    say 'outbox delay: preparing'
    for who in w d; do
        java -Xmx128m -XX:TieredStopAtLevel=1 -cp "$WALFERRY_KAFKA/libs/*" org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$broker_port" \
            --create --topic "${who}_$name.Order" --partitions 1 --replication-factor 1 --config message.timestamp.type=LogAppendTime >/dev/null
    done
    outbox_prepare "$name" 5 0
    cat >"$work/delay.sql" <<SQL
INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('Order', 'k', 't',
  jsonb_build_object('ms', (extract(epoch FROM clock_timestamp()) * 1000)::int8, 'note', repeat('x', 200)));
SQL
    for ((round = 0; round <= rounds; round++)); do
        for who in $(outbox_contenders "$round"); do
            topic=${who:0:1}_$name.Order
            outbox_start "$name" "$who"
            # What the other one's turn has left comes first.
            until_written "$topic" "$(sql source "$name" 'SELECT count(*) FROM outbox')" "$who" "$name"
            from=$(written "$topic")
            pgbench -n -f "$work/delay.sql" -R 200 -c 4 -T "$seconds" -h 127.0.0.1 -p "${port[source]}" -U postgres "$name" >/dev/null 2>&1
            until_written "$topic" "$(sql source "$name" 'SELECT count(*) FROM outbox')" "$who" "$name"
            kcat -b "127.0.0.1:$broker_port" -C -t "$topic" -p 0 -o "$from" -e -q -f '%T %s\n' |
                sed -n 's/^\([0-9]*\) .*"ms":\([0-9]*\).*/\1 \2/p' | awk '{ print $1 - $2 }' | sort -n >"$work/delays"
            count=$(wc -l <"$work/delays")
            [ "$count" -gt 0 ] || die "no event came to topic $topic"
            [ "$round" = 0 ] || {
                note 'outbox, 200 events/s' "$who" 'delay p50, ms' "$(sed -n "$((count / 2 + 1))p" "$work/delays")"
                note 'outbox, 200 events/s' "$who" 'delay p99, ms' "$(sed -n "$((count * 99 / 100 + 1))p" "$work/delays")"
                [ "$who" != walferry ] || note 'outbox, 200 events/s' walferry 'peak memory, MB' "$(peak_of "$walferry_pid")"
            }
            outbox_stop "$name" "$who"
        done
    done
    outbox_remove "$name"
}
