# Act 3: two services that know nothing of each other but an event. Sourced by scripts/demo.
# setup: --kafka --kcat

chapter 'Two services, one event'
shop_port=$(free_port) http_port=$(free_port)
ORDERS=postgresql://postgres@127.0.0.1:$shop_port/orders
STOCK=postgresql://postgres@127.0.0.1:$shop_port/inventory
orders=300
cargo build --profile $profile --quiet --example orders

act 'An order service and an inventory service, each with its own database'
why 'examples/orders. Nothing in the inventory keeps an order from being reserved twice: that is left to the event.'
server shop "$newest_programs" $shop_port '-c wal_level=logical' &
shop=$!
[ -n "${kafka:-}" ] && kill -0 $kafka 2>/dev/null || kafka_start
wait $shop
export WALFERRY_KAFKA_BROKERS=127.0.0.1:$kafka_port
psql -Xq "${ORDERS%/orders}/postgres" -c 'CREATE DATABASE orders'
psql -Xq -v ON_ERROR_STOP=1 "$ORDERS" -f examples/orders/orders.sql
psql -Xq -v ON_ERROR_STOP=1 "$STOCK" -f examples/orders/inventory.sql -c "INSERT INTO stock VALUES ('chair', 1000)"
show "psql orders -f examples/orders/orders.sql; psql inventory -f examples/orders/inventory.sql"
why 'An outbox table, and walferry.emit for those who want none.'
show 'walferry outbox init --layout debezium'
walferry outbox init --layout debezium --source "$ORDERS" >"$work/init.log" 2>&1 || fail "walferry outbox init failed: see $work/init.log"
route=(--source "$ORDERS" --name orders --set table.fields.additional.placement=type:header:eventType --http $http_port)
start_route() {
    walferry outbox run "${route[@]}" >>"$work/outbox.log" 2>&1 &
    router=$!
    processes+=($router)
}
start_worker() {
    orders reserve "$STOCK" "$WALFERRY_KAFKA_BROKERS" outbox.event.Order outbox.Order >>"$work/worker.log" 2>&1 &
    worker=$!
    processes+=($worker)
}
reserved() { psql -XAtq "$STOCK" -c 'SELECT count(DISTINCT order_id) FROM reservations'; }
wait_for_reservations() { # at least
    local deadline=$((SECONDS + 90))
    until [ "$(reserved)" -ge "$1" ]; do
        kill -0 $router 2>/dev/null || fail "walferry outbox run ended: see $work/outbox.log"
        kill -0 $worker 2>/dev/null || fail "the inventory service ended: see $work/worker.log"
        [ $SECONDS -lt $deadline ] || fail "$(reserved) orders reserved, $1 expected: see $work/outbox.log and $work/worker.log"
        sleep 0.05
    done
}
show "walferry outbox run --http $http_port &"
start_route
until [ "$(curl -s "http://127.0.0.1:$http_port/readyz")" = ready ]; do
    kill -0 $router 2>/dev/null || fail "walferry outbox run ended: see $work/outbox.log"
    sleep 0.05
done
result "curl localhost:$http_port/readyz: ready"
show 'orders reserve inventory &'
start_worker

act 'An order is placed'
why 'The order and its event are one transaction: a row in the outbox table, or a message that is nothing but WAL.'
show 'orders place orders chair 1 table; orders place orders chair 1 message'
orders place "$ORDERS" chair 1 table >"$work/place.log"
orders place "$ORDERS" chair 1 message >>"$work/place.log"
wait_for_reservations 2
why 'The event as any consumer sees it, with kcat:'
show 'kcat -C -e -t outbox.Order'
kcat -b "$WALFERRY_KAFKA_BROKERS" -C -e -q -t outbox.Order -f '%k  %s\n' 2>"$work/kcat.log" | sed 's/^/     /'

act 'Everybody dies in turn'
why "$orders more orders in both ways. Meanwhile kill -9: walferry, the broker, the inventory service."
{
    for _ in $(seq 30); do
        orders place "$ORDERS" chair $((orders / 60)) table && orders place "$ORDERS" chair $((orders / 60)) message || break
    done
} >>"$work/place.log" 2>&1 &
placing=$!
processes+=($placing)
wait_for_reservations 20
show "kill -9 $router"
kill -KILL $router && wait $router 2>/dev/null || true
start_route
wait_for_reservations 60
show "kill -9 $kafka"
kill -KILL $kafka && kafka_start
wait_for_reservations 100
show "kill -9 $worker"
kill -KILL $worker && wait $worker 2>/dev/null || true
start_worker
wait $placing || fail "an order could not be placed: see $work/place.log"
orders=$(psql -XAtq "$ORDERS" -c 'SELECT count(*) FROM orders')
wait_for_reservations $orders

act 'Every order is reserved exactly once'
show "SELECT count(*), count(DISTINCT order_id), sum(quantity) FROM reservations"
IFS='|' read -r rows_reserved distinct_reserved chairs < <(psql -XAtq "$STOCK" \
    -c 'SELECT count(*), count(DISTINCT order_id), sum(quantity) FROM reservations')
ordered=$(psql -XAtq "$ORDERS" -c 'SELECT sum(quantity) FROM orders')
free=$(psql -XAtq "$STOCK" -c "SELECT free FROM stock WHERE product = 'chair'")
result "$rows_reserved reservations of $distinct_reserved orders, $chairs chairs; $orders orders were placed, for $ordered chairs"
[ "$rows_reserved" = "$orders" ] && [ "$distinct_reserved" = "$orders" ] && [ "$chairs" = "$ordered" ] &&
    [ $((free + chairs)) = 1000 ] || fail 'an order was lost or reserved twice'
kill $worker && wait $worker || fail "the inventory service met an error: see $work/worker.log"
result "$(tail -1 "$work/worker.log")"
if [ -z "$keep" ]; then
    kill $router && wait $router || true
    show 'walferry outbox remove'
    walferry outbox remove --source "$ORDERS" --name orders >"$work/remove.log" 2>&1 || fail "see $work/remove.log"
fi

line 'orders placed while everybody died in turn' "$orders"
line 'reserved exactly once' "$distinct_reserved"
