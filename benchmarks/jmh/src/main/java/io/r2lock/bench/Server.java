package io.r2lock.bench;

import io.r2dbc.postgresql.PostgresqlConnectionConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.zonky.test.db.postgres.embedded.EmbeddedPostgres;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;

/** The PostgreSQL under test, and the ways to it. */
final class Server implements AutoCloseable {

    private final EmbeddedPostgres postgres;

    Server() throws IOException {
        this.postgres = EmbeddedPostgres.builder()
                .setServerConfig("max_connections", "200")
                .start();
    }

    int port() {
        return postgres.getPort();
    }

    static PostgresqlConnectionFactory factory(int port) {
        return new PostgresqlConnectionFactory(PostgresqlConnectionConfiguration.builder()
                .host("127.0.0.1")
                .port(port)
                .username("postgres")
                .database("postgres")
                .build());
    }

    static String url(int port) {
        return "jdbc:postgresql://127.0.0.1:" + port + "/postgres?user=postgres";
    }

    String version() {
        return ask("SHOW server_version");
    }

    int connections(String applicationName) {
        return Integer.parseInt(
                ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = ?", applicationName));
    }

    private String ask(String sql, String... arguments) {
        try (Connection connection = DriverManager.getConnection(url(port()));
                PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < arguments.length; i++) {
                statement.setString(i + 1, arguments[i]);
            }
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getString(1);
            }
        } catch (SQLException e) {
            throw new IllegalStateException(sql, e);
        }
    }

    @Override
    public void close() {
        try {
            postgres.close();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
