"""python3 emit.py "postgresql://…"

Each order and its event are one transaction.
"""

import sys

import psycopg
from psycopg.types.json import Jsonb


def emit_message(connection, order, payload):
    """With a logical message: nothing is stored but WAL."""
    connection.execute(
        "SELECT walferry.emit('Order', %s, 'OrderPlaced', %s)", (str(order), Jsonb(payload))
    )


def emit_row(connection, order, payload):
    """With a row in the outbox table."""
    connection.execute(
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload)"
        " VALUES (gen_random_uuid(), 'Order', %s, 'OrderPlaced', %s)",
        (str(order), Jsonb(payload)),
    )


def insert_order(connection, quantity):
    (order,) = connection.execute(
        "INSERT INTO orders (customer, product, quantity) VALUES ('python', 'chair', %s) RETURNING id",
        (quantity,),
    ).fetchone()
    return order, {"order_id": order, "customer": "python", "product": "chair", "quantity": quantity}


def main(database):
    with psycopg.connect(database, autocommit=True) as connection:
        with connection.transaction():
            first, payload = insert_order(connection, 1)
            emit_message(connection, first, payload)

        with connection.transaction():
            second, payload = insert_order(connection, 2)
            emit_row(connection, second, payload)

        # Rolled back: neither the order nor its events exist.
        with connection.transaction():
            third, payload = insert_order(connection, 3)
            emit_message(connection, third, payload)
            emit_row(connection, third, payload)
            raise psycopg.Rollback()

    print(first)
    print(second)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: emit.py DATABASE")
    main(sys.argv[1])
