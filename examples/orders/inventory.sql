-- The inventory service's own database. Nothing in it keeps an order from being reserved twice: that is left to the inbox.
CREATE TABLE stock (
    product text PRIMARY KEY,
    free int NOT NULL CHECK (free >= 0)
);
CREATE TABLE reservations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id bigint NOT NULL,
    product text NOT NULL,
    quantity int NOT NULL,
    reserved_at timestamptz NOT NULL DEFAULT now()
);
