# A backlog through Kafka: walferry read and write, beside walferry without Kafka (direct), and Debezium's source connector with its JDBC
# sink. Sourced by scripts/bench.
#
# One backlog serves all, each with a slot and a target of its own. Timed from the start of walferry's processes (Debezium: from the order
# to its connectors to run, its JVM being warm) to the commit of the backlog's last transaction on the target. A second backlog is
# taken in two halves: WAL to topics, until the last event is acknowledged; topics to target.
#
# Debezium at its best: max.batch.size 8192, its sink's batch.size 5000 and max.poll.records 5000, lz4, polls every 50 ms.

bench_kafka() { # names of workloads, by commas
    local name
    kafka_up
    for name in ${1//,/ }; do kafka_workload "$name"; done
    kafka_delay
    kafka_down
}

# Broker and Connect, a process each ------------------------------------------------------------------------------

kafka_up() {
    local controller
    controller=$(free_port)
    broker_port=$(free_port)
    mkdir -p "$work/kafka/data"
    cp "$WALFERRY_KAFKA"/formatted/{meta.properties,bootstrap.checkpoint} "$work/kafka/data"
    cat >"$work/kafka/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$broker_port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$broker_port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$work/kafka/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
message.max.bytes=16777216
PROPERTIES
    java -Xmx1g -cp "$WALFERRY_KAFKA/libs/*" kafka.Kafka "$work/kafka/server.properties" >"$work/kafka.log" 2>&1 &
    broker_pid=$!
    answers "$broker_port" "$broker_pid" kafka.log
    kafka_warm
    if [ -z "${WALFERRY_DEBEZIUM:-}" ] && wants debezium; then
        say 'Debezium is not here (scripts/setup --debezium): measured without it'
        only=,direct,walferry,
    fi
    ! wants debezium || connect_up
}

# A broker in use has compiled its code; one that has just started spends a core on that for its first half minute.
kafka_warm() {
    local round lines=200000
    java -cp "$WALFERRY_KAFKA/libs/*" org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$broker_port" --create --topic warm --partitions 4 >/dev/null
    seq -f '%09.0f a line of text about as long as a small event is, give or take, in JSON with its names' $lines >"$work/warm"
    for round in 1 2 3; do
        kcat -q -P -b "127.0.0.1:$broker_port" -t warm -X linger.ms=2 -l "$work/warm"
        kcat -q -C -b "127.0.0.1:$broker_port" -t warm -o beginning -c $((lines * round)) >/dev/null
    done
    java -cp "$WALFERRY_KAFKA/libs/*" org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$broker_port" --delete --topic warm >/dev/null
}
connect_up() {
    rest_port=$(free_port)
    cat >"$work/worker.properties" <<PROPERTIES
bootstrap.servers=127.0.0.1:$broker_port
listeners=http://127.0.0.1:$rest_port
offset.storage.file.filename=$work/offsets
offset.flush.interval.ms=500
plugin.discovery=only_scan
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
PROPERTIES
    printf '%s\n' 'log4j.rootLogger=WARN, out' 'log4j.appender.out=org.apache.log4j.ConsoleAppender' \
        'log4j.appender.out.layout=org.apache.log4j.PatternLayout' 'log4j.appender.out.layout.ConversionPattern=%d %p %c %m%n' >"$work/log4j.properties"
    java -Xmx2g "-Dlog4j.configuration=file:$work/log4j.properties" -cp "$WALFERRY_DEBEZIUM/libs/*" \
        org.apache.kafka.connect.cli.ConnectStandalone "$work/worker.properties" >"$work/connect.log" 2>&1 &
    connect_pid=$!
    until rest GET connectors >/dev/null 2>&1; do
        kill -0 $connect_pid 2>/dev/null || { tail -20 "$work/connect.log" >&2; die 'Kafka Connect ended'; }
        sleep 0.5
    done
}
kafka_down() {
    local pid
    for pid in ${connect_pid:-} ${broker_pid:-}; do kill -KILL "$pid" 2>/dev/null || true; done
    connect_pid= broker_pid=
}
answers() { # port, pid, log
    until (: >"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do
        kill -0 "$2" 2>/dev/null || { tail -20 "$work/$3" >&2; die "$3: it ended"; }
        sleep 0.2
    done
}
rest() { # method, path, body
    curl -fsS -X "$1" -H 'Content-Type: application/json' ${3:+-d "$3"} "http://127.0.0.1:$rest_port/$2"
}

# One workload ----------------------------------------------------------------------------------------------------

kafka_workload() { # name
    local name=$1 round who
    say "kafka $name: preparing"
    fresh source "$name"
    sql_file source "$name" "benches/workloads/$name/tables.sql" -v scale="$scale"
    sql source "$name" 'CREATE TABLE marker (id bigint PRIMARY KEY); CREATE PUBLICATION native FOR ALL TABLES'
    sql source "$name" 'VACUUM (ANALYZE)'
    kafka_prepare "$name"
    kafka_round "$name" 0 warm
    for ((round = 1; round <= rounds; round++)); do
        say "kafka $name: load $round"
        source "benches/workloads/$name/load.sh"
        kafka_round "$name" $((2 * round - 1)) seconds
        say "kafka $name: load $round, to be taken in two halves"
        source "benches/workloads/$name/load.sh"
        kafka_round "$name" $((2 * round)) halves
    done
    ! wants debezium || note "kafka $name" debezium peak_mb "$(peak_of "$connect_pid")"
    kafka_remove "$name"
}

contenders() { # round
    local all=(direct walferry debezium) at
    for at in 0 1 2; do
        who=${all[$(((at + $1) % 3))]}
        [ "$who" != debezium ] && [ "$who" != direct ] || wants "$who" || continue
        echo "$who"
    done
}

kafka_round() { # name, round, metric
    local name=$1 round=$2 metric=$3 who
    # Past this the slot is confirmed only when the marker is in the topics.
    before=$(sql source "$name" 'SELECT pg_current_wal_insert_lsn()')
    sql source "$name" "INSERT INTO marker VALUES ($round)"
    for who in $(contenders "$round"); do
        settle
        kafka_take "$name" "$round" "$metric" "$who"
        equal "$name" "${name}_$who" || { unequal "kafka $name" "$who"; sed -i "/^kafka $name\t$who\t/d" "$results"; }
    done
}

kafka_take() { # name, round, metric, who
    local name=$1 metric=$3 who=$4 began done_at half markers
    if [ "$metric" = halves ] && [ "$who" != direct ]; then
        markers=$(markers_of "$name")
        began=$(now)
        kafka_start "$name" "$who" read
        "${who}_in_topics" "$name"
        half=$(minus "$(now)" "$began")
        note "kafka $name" "$who" to_topics "$half"
        say "kafka $name: $who to topics $half"
        kafka_stop "$name" "$who" read
        settle
        began=$(now)
        kafka_start "$name" "$who" write
        done_at=$(all_seen "$name" "$2" "$who")
        half=$(minus "$done_at" "$began")
        note "kafka $name" "$who" to_target "$half"
        say "kafka $name: $who to target $half"
        kafka_stop "$name" "$who" write
        return
    fi
    began=$(now)
    kafka_start "$name" "$who" both
    done_at=$(all_seen "$name" "$2" "$who")
    [ "$metric" != seconds ] || {
        note "kafka $name" "$who" seconds "$(minus "$done_at" "$began")"
        kafka_costs "kafka $name" "$who"
    }
    say "kafka $name: $who $metric $(minus "$done_at" "$began")"
    kafka_stop "$name" "$who" both
}

kafka_costs() { # what, who
    case $2 in
        direct) note "$1" direct cpu "$(cpu_of "$writer_pid")"; note "$1" direct peak_mb "$(peak_of "$writer_pid")" ;;
        walferry)
            note "$1" walferry cpu "$(awk -v a="$(cpu_of "$reader_pid")" -v b="$(cpu_of "$writer_pid")" 'BEGIN { print a + b }')"
            note "$1" walferry read_peak_mb "$(peak_of "$reader_pid")"
            note "$1" walferry write_peak_mb "$(peak_of "$writer_pid")" ;;
    esac
}

# The time of the last change on the target. Debezium's sink takes each topic by itself and the marker may overtake the rest: it has
# ended when the target's WAL stands still, and the comparison says whether that was the end.
all_seen() { # name, round, who
    local marker
    marker=$(marker_seen "$1_$3" "$2")
    if [ "$3" != debezium ]; then echo "$marker"; return; fi
    sql target "$1_$3" "
        DO \$\$
        DECLARE last pg_lsn := pg_current_wal_insert_lsn(); moved timestamptz := clock_timestamp();
        BEGIN
            WHILE clock_timestamp() - moved < interval '8 s' LOOP
                PERFORM pg_sleep(0.01);
                -- less than any row: the server's own
                IF pg_current_wal_insert_lsn() - last > 200 THEN last := pg_current_wal_insert_lsn(); moved := clock_timestamp(); END IF;
            END LOOP;
            PERFORM set_config('bench.moved', extract(epoch FROM moved)::text, false);
        END \$\$;
        SELECT current_setting('bench.moved')"
}

# walferry: the slot is confirmed past the marker, so its END is acknowledged. Debezium confirms with a later event: its marker's event is there.
walferry_in_topics() { # name
    sql source "$1" "SET statement_timeout = '20min'; DO \$\$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_replication_slots
        WHERE slot_name = 'bench_walferry' AND confirmed_flush_lsn > '$before') LOOP PERFORM pg_sleep(0.005); END LOOP; END \$\$"
}
debezium_in_topics() { # name
    local deadline=$((SECONDS + 1200))
    until [ "$(markers_of "$1")" -gt "$markers" ]; do
        [ $SECONDS -lt $deadline ] || die "kafka $1: Debezium's source does not get on"
        sleep 0.02
    done
}
markers_of() { # name
    ! wants debezium || kcat -b "127.0.0.1:$broker_port" -Q -t "d_$1.public.marker:0:-1" 2>/dev/null | sed -n 's/.* offset //p'
}

# The contenders --------------------------------------------------------------------------------------------------

kafka_prepare() { # name
    local who
    for who in direct walferry debezium; do fresh target "$1_$who"; done
    for who in direct walferry; do
        [ "$who" = walferry ] || wants direct || continue
        kafka_start "$1" $who both
        until [ "$(sql target "$1_$who" 'SELECT step FROM walferry.runs' 2>/dev/null)" = live ]; do
            kill -0 "$writer_pid" 2>/dev/null || { cat "$work/$who.write.log" >&2; die "walferry ended"; }
            sleep 0.2
        done
        kafka_stop "$1" $who both
        sql target "$1_$who" ANALYZE
    done
    ! wants debezium || debezium_prepare "$1"
}

kafka_start() { # name, who, read|write|both
    local run=(--name "bench_$2" --log-format text --progress never "${settings[@]}")
    local target=(--target "$(uri target "$1_$2")" --keyless inserts --jobs "$jobs") source=(--source "$(uri source "$1")")
    local through=(--brokers "127.0.0.1:$broker_port" --prefix "w_$1")
    case $2 in
        debezium) debezium_order "$1" resume "$3" ;;
        direct)
            "$walferry" replicate "${source[@]}" "${target[@]}" "${run[@]}" >"$work/direct.write.log" 2>&1 &
            writer_pid=$! ;;
        walferry)
            if [ "$3" != write ]; then
                "$walferry" read "${source[@]}" "${through[@]}" "${run[@]}" >"$work/walferry.read.log" 2>&1 &
                reader_pid=$!
            fi
            if [ "$3" != read ]; then
                "$walferry" write "${source[@]}" "${target[@]}" "${through[@]}" "${run[@]}" >"$work/walferry.write.log" 2>&1 &
                writer_pid=$!
            fi ;;
    esac
}
kafka_stop() { # name, who, read|write|both
    local pid
    if [ "$2" = debezium ]; then debezium_order "$1" stop "$3"; return; fi
    for pid in ${writer_pid:-} ${reader_pid:-}; do kill "$pid" && wait "$pid" || true; done
    writer_pid= reader_pid=
}

debezium_prepare() { # name
    local name=$1 keyed keyless common
    pg_dump -s --no-publications "$(uri source "$name")" | psql -Xq "$(uri target "${name}_debezium")" >/dev/null 2>&1
    pg_dump -a "$(uri source "$name")" | psql -Xq "$(uri target "${name}_debezium")" >/dev/null 2>&1
    sql target "${name}_debezium" ANALYZE
    rest PUT "connectors/source_$name/config" "{
        \"connector.class\": \"io.debezium.connector.postgresql.PostgresConnector\", \"tasks.max\": \"1\",
        \"database.hostname\": \"127.0.0.1\", \"database.port\": \"${port[source]}\", \"database.user\": \"postgres\", \"database.password\": \"x\",
        \"database.dbname\": \"$name\", \"topic.prefix\": \"d_$name\", \"plugin.name\": \"pgoutput\", \"slot.name\": \"bench_debezium\",
        \"publication.name\": \"native\", \"publication.autocreate.mode\": \"disabled\", \"snapshot.mode\": \"no_data\",
        \"max.batch.size\": \"8192\", \"max.queue.size\": \"32768\", \"poll.interval.ms\": \"50\",
        \"producer.override.compression.type\": \"lz4\", \"producer.override.batch.size\": \"1000000\", \"producer.override.linger.ms\": \"5\",
        \"producer.override.max.request.size\": \"16777216\",
        \"topic.creation.default.partitions\": \"1\", \"topic.creation.default.replication.factor\": \"1\" }" >/dev/null
    # Its sink takes rows without a key only as plain inserts: a connector of its own for those tables.
    keyed=$(topics_of "$name" true) keyless=$(topics_of "$name" false)
    common="\"connector.class\": \"io.debezium.connector.jdbc.JdbcSinkConnector\", \"tasks.max\": \"1\",
        \"connection.url\": \"jdbc:postgresql://127.0.0.1:${port[target]}/${name}_debezium\", \"connection.username\": \"postgres\",
        \"connection.password\": \"x\", \"schema.evolution\": \"none\", \"collection.name.format\": \"\${source.table}\", \"batch.size\": \"5000\",
        \"header.converter\": \"org.apache.kafka.connect.storage.StringConverter\",
        \"consumer.override.auto.offset.reset\": \"earliest\", \"consumer.override.max.poll.records\": \"5000\",
        \"consumer.override.max.partition.fetch.bytes\": \"16777216\", \"consumer.override.metadata.max.age.ms\": \"500\""
    rest PUT "connectors/sink_$name/config" "{ $common, \"topics\": \"$keyed\", \"insert.mode\": \"upsert\",
        \"primary.key.mode\": \"record_key\", \"delete.enabled\": \"true\" }" >/dev/null
    [ -z "$keyless" ] || rest PUT "connectors/keyless_$name/config" "{ $common, \"topics\": \"$keyless\", \"insert.mode\": \"insert\",
        \"primary.key.mode\": \"none\" }" >/dev/null
    until [ -n "$(sql source "$name" "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'bench_debezium' AND active")" ]; do
        debezium_alive "$name"
        sleep 0.2
    done
    debezium_order "$name" stop both
}
topics_of() { # name, with a key?
    sql source "$1" "SELECT string_agg('d_$1.public.' || relname, ',') FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
        AND $2 = EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)"
}
debezium_connectors() { rest GET connectors | tr -d '[]"' | tr ',' '\n'; }
debezium_alive() { # name
    local connector
    for connector in $(debezium_connectors); do
        [[ $(rest GET "connectors/$connector/status") != *FAILED* ]] || { tail -30 "$work/connect.log" >&2; die "Debezium: $connector failed"; }
    done
}
# The order is carried out when this returns with "stop"; "resume" is timed.
debezium_order() { # name, resume|stop, read|write|both
    local connector kind
    for connector in $(debezium_connectors | sort -r); do
        case $connector in *_"$1") ;; *) continue ;; esac
        kind=write
        [[ $connector != source_* ]] || kind=read
        [ "$3" = both ] || [ "$3" = $kind ] || continue
        rest PUT "connectors/$connector/$2" >/dev/null
    done
    [ "$2" = stop ] || return 0
    debezium_alive "$1"
    until ! rest GET "connectors?expand=status" | grep -q "\"name\":\"[a-z]*_$1\",\"connector\":{\"state\":\"RUNNING\"" || [ "$3" != both ]; do sleep 0.2; done
    until [ "$3" = write ] || [ -z "$(sql source "$1" "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'bench_debezium' AND active")" ]; do sleep 0.1; done
}

kafka_remove() { # name
    local who connector
    for connector in $(! wants debezium || debezium_connectors); do rest DELETE "connectors/$connector" >/dev/null; done
    for who in direct walferry; do
        [ "$who" = walferry ] || wants direct || continue
        "$walferry" clean --name "bench_$who" --source "$(uri source "$1")" --target "$(uri target "$1_$who")" >"$work/clean.log" 2>&1 || cat "$work/clean.log" >&2
    done
    sql source "$1" "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '$1' AND NOT active" >/dev/null
    sql source postgres "DROP DATABASE $1 WITH (FORCE)"
    for who in direct walferry debezium; do sql target postgres "DROP DATABASE $1_$who WITH (FORCE)"; done
}

# Delay -----------------------------------------------------------------------------------------------------------

# As bench_delay, at 500 transactions a second and when idle.
kafka_delay() {
    local round who
    say 'kafka delay: preparing'
    fresh source delay
    sql_file source delay benches/workloads/tpcb/tables.sql
    sql source delay 'CREATE TABLE ping (id bigserial PRIMARY KEY); CREATE TABLE marker (id bigint PRIMARY KEY); CREATE PUBLICATION native FOR ALL TABLES'
    sql source delay 'VACUUM (ANALYZE)'
    kafka_prepare delay
    delay_scripts
    # The broker compiles what many small requests need; until it has, that takes a core of two.
    for who in $(contenders 1); do
        kafka_start delay "$who" both
        delay_what=warm delay_load "$who" busy 500 7500 4
        kafka_stop delay "$who" both
    done
    sed -i '/^warm/d' "$results"
    for ((round = 1; round <= rounds; round++)); do
        for who in $(contenders "$round"); do
            delay_marker
            kafka_start delay "$who" both
            delay_caught_up "$who"
            delay_what='kafka delay' delay_load "$who" idle 20 "$(times 200 "$scale")" 1
            delay_what='kafka delay' delay_load "$who" busy 500 "$(times 7500 "$scale")" 4
            kafka_stop delay "$who" both
            equal delay "delay_$who" || unequal 'kafka delay' "$who"
        done
    done
    kafka_remove delay
}
