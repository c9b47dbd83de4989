// go run . "postgresql://…"
//
// Each order and its event are one transaction.
package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"

	_ "github.com/lib/pq"
)

// With a logical message: nothing is stored but WAL.
func emitMessage(tx *sql.Tx, order int64, payload string) error {
	_, err := tx.Exec(`SELECT walferry.emit('Order', $1, 'OrderPlaced', $2)`, strconv.FormatInt(order, 10), payload)
	return err
}

// With a row in the outbox table.
func emitRow(tx *sql.Tx, order int64, payload string) error {
	_, err := tx.Exec(`INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload)
		VALUES (gen_random_uuid(), 'Order', $1, 'OrderPlaced', $2)`, strconv.FormatInt(order, 10), payload)
	return err
}

func insertOrder(tx *sql.Tx, quantity int) (id int64, payload string, err error) {
	err = tx.QueryRow(`INSERT INTO orders (customer, product, quantity) VALUES ('go', 'chair', $1) RETURNING id`,
		quantity).Scan(&id)
	if err != nil {
		return
	}
	event, err := json.Marshal(map[string]any{"order_id": id, "customer": "go", "product": "chair", "quantity": quantity})
	return id, string(event), err
}

// place inserts an order, emits its event in each of the given ways, and commits or rolls back.
func place(db *sql.DB, quantity int, commit bool, emit ...func(*sql.Tx, int64, string) error) (int64, error) {
	tx, err := db.Begin()
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // after Commit it does nothing
	id, payload, err := insertOrder(tx, quantity)
	if err != nil {
		return 0, err
	}
	for _, emit := range emit {
		if err := emit(tx, id, payload); err != nil {
			return 0, err
		}
	}
	if !commit {
		return id, nil
	}
	return id, tx.Commit()
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: emit DATABASE")
	}
	db, err := sql.Open("postgres", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	first, err := place(db, 1, true, emitMessage)
	if err != nil {
		log.Fatal(err)
	}
	second, err := place(db, 2, true, emitRow)
	if err != nil {
		log.Fatal(err)
	}
	// Rolled back: neither the order nor its events exist.
	if _, err := place(db, 3, false, emitMessage, emitRow); err != nil {
		log.Fatal(err)
	}
	fmt.Println(first)
	fmt.Println(second)
}
