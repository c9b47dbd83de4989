# Outbox: events a second from a backlog, and the delay from commit to Kafka at 200 events a second. Sourced by scripts/bench.

# A broker of one node, on the disk of the servers.
broker_start() {
    [ -n "${WALFERRY_KAFKA:-}" ] || die "the broker is not there: scripts/setup --kafka"
    local control=$(free_port)
    port[broker]=$(free_port)
    mkdir -p "$work/kafka/data"
    cp "$WALFERRY_KAFKA"/formatted/* "$work/kafka/data/"
    cat >"$work/kafka/server.properties" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$control
listeners=PLAINTEXT://127.0.0.1:${port[broker]},CONTROLLER://127.0.0.1:$control
advertised.listeners=PLAINTEXT://127.0.0.1:${port[broker]}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$work/kafka/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
auto.create.topics.enable=false
CONF
    java -Xmx768m -cp "$WALFERRY_KAFKA/libs/*" kafka.Kafka "$work/kafka/server.properties" >"$work/kafka/log" 2>&1 &
    broker_pid=$!
    until kafka_tool org.apache.kafka.tools.TopicCommand --list >/dev/null 2>&1; do sleep 0.5; done
}
broker_stop() { [ -z "${broker_pid:-}" ] || { kill "$broker_pid" && wait "$broker_pid"; } 2>/dev/null || true; }
kafka_tool() { # class, arguments…
    local class=$1
    shift
    java -Xmx128m -XX:TieredStopAtLevel=1 -cp "$WALFERRY_KAFKA/libs/*" "$class" --bootstrap-server "127.0.0.1:${port[broker]}" "$@"
}

outbox_run() { # database, arguments…
    local database=$1
    shift
    "$walferry" outbox run --source "$(uri source "$database")" --brokers "127.0.0.1:${port[broker]}" --name "$database" \
        --set outbox.messages=bench --set table.expand.json.payload=on --progress never "$@" "${settings[@]}" >"$work/$database.log" 2>&1 &
    walferry_pid=$!
}
outbox_stop() {
    kill "$walferry_pid" 2>/dev/null || true
    wait "$walferry_pid" 2>/dev/null || true
    walferry_pid=
}
outbox_ready() { # database
    until [ "$(sql source postgres "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '$1' AND active")" = 1 ]; do sleep 0.05; done
}
# Waits until Kafka has what is committed now.
outbox_delivered() { # database
    local end
    end=$(sql source "$1" "SELECT pg_current_wal_insert_lsn()")
    until [ "$(sql source postgres "SELECT confirmed_flush_lsn >= '$end' FROM pg_replication_slots WHERE slot_name = '$1'")" = t ]; do sleep 0.02; done
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
    local events=$(times "$scale" 1000000) round kind began
    events=$((events / 10 * 10 + 10))
    broker_start
    for kind in row message; do
        for ((round = 1; round <= rounds; round++)); do
            local database=ob_${kind}_$round
            fresh source "$database"
            sql source "$database" "CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL,
                aggregateid text NOT NULL, type text NOT NULL, payload jsonb)"
            outbox_run "$database"
            outbox_ready "$database"
            outbox_stop
            sql source "$database" "$("${kind}_sql" "$events")"
            settle
            began=$(now)
            outbox_run "$database"
            outbox_ready "$database"
            outbox_delivered "$database"
            note "outbox, backlog of ${kind}s" walferry "events/s" "$(awk -v n="$events" -v s="$(minus "$(now)" "$began")" 'BEGIN { printf "%d", n / s }')"
            note "outbox, backlog of ${kind}s" walferry "peak memory, MB" "$(peak_of "$walferry_pid")"
            outbox_stop
        done
    done
    outbox_delay
    broker_stop
}

# The topic takes the broker's time of arrival; the event carries the source's clock as of its transaction's last statement.
outbox_delay() {
    local database=ob_delay seconds=20
    fresh source "$database"
    sql source "$database" "CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL,
        aggregateid text NOT NULL, type text NOT NULL, payload jsonb)"
    kafka_tool org.apache.kafka.tools.TopicCommand --create --topic delay.Order --partitions 1 --replication-factor 1 \
        --config message.timestamp.type=LogAppendTime >/dev/null
    outbox_run "$database" --set 'route.topic.replacement=delay.${routedByValue}'
    outbox_ready "$database"
    cat >"$work/delay.sql" <<SQL
INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('Order', 'k', 't',
  jsonb_build_object('ms', (extract(epoch FROM clock_timestamp()) * 1000)::int8, 'note', repeat('x', 200)));
SQL
    pgbench -n -f "$work/delay.sql" -R 200 -c 4 -T "$seconds" -h 127.0.0.1 -p "${port[source]}" -U postgres "$database" >/dev/null 2>&1
    outbox_delivered "$database"
    kafka_tool org.apache.kafka.tools.consumer.ConsoleConsumer --topic delay.Order --from-beginning --timeout-ms 5000 \
        --property print.timestamp=true 2>/dev/null |
        sed -n 's/^LogAppendTime:\([0-9]*\)\t.*"ms":\([0-9]*\).*/\1 \2/p' | awk '{ print $1 - $2 }' | sort -n >"$work/delays"
    local count
    count=$(wc -l <"$work/delays")
    [ "$count" -gt 0 ] || die "no event came to topic delay.Order"
    note "outbox, 200 events/s" walferry "delay p50, ms" "$(sed -n "$((count / 2 + 1))p" "$work/delays")"
    note "outbox, 200 events/s" walferry "delay p99, ms" "$(sed -n "$((count * 99 / 100 + 1))p" "$work/delays")"
    note "outbox, 200 events/s" walferry "peak memory, MB" "$(peak_of "$walferry_pid")"
    outbox_stop
}
