// java -cp postgresql.jar Emit.java "postgresql://…"
//
// Each order and its event are one transaction.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;

public class Emit {
    private record Order(long id, String payload) {}

    /** With a logical message: nothing is stored but WAL. */
    static void emitMessage(Connection connection, Order order) throws SQLException {
        run(connection, "SELECT walferry.emit('Order', ?, 'OrderPlaced', ?::jsonb)", order);
    }

    /** With a row in the outbox table. */
    static void emitRow(Connection connection, Order order) throws SQLException {
        run(connection, "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload)"
                + " VALUES (gen_random_uuid(), 'Order', ?, 'OrderPlaced', ?::jsonb)", order);
    }

    private static void run(Connection connection, String sql, Order order) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            statement.setString(1, Long.toString(order.id()));
            statement.setString(2, order.payload());
            statement.execute();
        }
    }

    static Order insertOrder(Connection connection, int quantity) throws SQLException {
        String sql = "INSERT INTO orders (customer, product, quantity) VALUES ('java', 'chair', ?) RETURNING id";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            statement.setInt(1, quantity);
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                long id = rows.getLong(1);
                String payload = "{\"order_id\": %d, \"customer\": \"java\", \"product\": \"chair\", \"quantity\": %d}";
                return new Order(id, payload.formatted(id, quantity));
            }
        }
    }

    public static void main(String[] arguments) throws SQLException {
        if (arguments.length != 1) {
            System.err.println("usage: Emit DATABASE");
            System.exit(2);
        }
        try (Connection connection = DriverManager.getConnection("jdbc:" + arguments[0])) {
            connection.setAutoCommit(false);
            Order first = insertOrder(connection, 1);
            emitMessage(connection, first);
            connection.commit();

            Order second = insertOrder(connection, 2);
            emitRow(connection, second);
            connection.commit();

            // Rolled back: neither the order nor its events exist.
            Order third = insertOrder(connection, 3);
            emitMessage(connection, third);
            emitRow(connection, third);
            connection.rollback();

            System.out.println(first.id());
            System.out.println(second.id());
        }
    }
}
