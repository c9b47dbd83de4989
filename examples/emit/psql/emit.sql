-- psql "postgresql://…" -v ON_ERROR_STOP=1 -qAt -f emit.sql
--
-- Each order and its event are one transaction.

-- With a logical message: nothing is stored but WAL.
BEGIN;
INSERT INTO orders (customer, product, quantity) VALUES ('psql', 'chair', 1) RETURNING id \gset
SELECT FROM walferry.emit('Order', :'id', 'OrderPlaced',
    jsonb_build_object('order_id', :id, 'customer', 'psql', 'product', 'chair', 'quantity', 1));
COMMIT;
\echo :id

-- With a row in the outbox table.
BEGIN;
INSERT INTO orders (customer, product, quantity) VALUES ('psql', 'chair', 2) RETURNING id \gset
INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) VALUES (gen_random_uuid(), 'Order', :'id', 'OrderPlaced',
    jsonb_build_object('order_id', :id, 'customer', 'psql', 'product', 'chair', 'quantity', 2));
COMMIT;
\echo :id

-- Rolled back: neither the order nor its events exist.
BEGIN;
INSERT INTO orders (customer, product, quantity) VALUES ('psql', 'chair', 3) RETURNING id \gset
SELECT FROM walferry.emit('Order', :'id', 'OrderPlaced', '{"rolled": "back"}');
INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload)
VALUES (gen_random_uuid(), 'Order', :'id', 'OrderPlaced', '{"rolled": "back"}');
ROLLBACK;
