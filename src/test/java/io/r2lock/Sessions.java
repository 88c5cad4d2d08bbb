package io.r2lock;

import io.r2dbc.postgresql.PostgresqlConnectionConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.postgresql.api.PostgresqlResult;
import io.r2dbc.spi.R2dbcException;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Bare driver connections for tests that look at the server and the driver themselves; all are closed together. */
final class Sessions implements AutoCloseable {

    private static final Duration PATIENCE = Duration.ofSeconds(10);

    private final TestServer server;
    private final ConcurrentLinkedQueue<PostgresqlConnection> open = new ConcurrentLinkedQueue<>();

    Sessions(TestServer server) {
        this.server = server;
    }

    PostgresqlConnection open() {
        return open(configuration -> configuration);
    }

    PostgresqlConnection open(UnaryOperator<PostgresqlConnectionConfiguration.Builder> change) {
        PostgresqlConnectionConfiguration configuration =
                change.apply(server.configuration()).build();
        PostgresqlConnection connection = Objects.requireNonNull(
                new PostgresqlConnectionFactory(configuration).create().block(PATIENCE));
        open.add(connection);
        return connection;
    }

    /** Sends one simple-protocol message, of one statement or several; its rows are ignored. */
    static Mono<Void> send(PostgresqlConnection connection, String sql) {
        return connection
                .createStatement(sql)
                .fetchSize(0)
                .execute()
                .concatMap(PostgresqlResult::getRowsUpdated)
                .then();
    }

    /** Sends and waits. */
    static void run(PostgresqlConnection connection, String sql) {
        send(connection, sql).block(PATIENCE);
    }

    /** The first column of all rows, as text; parameters, if any, make it a prepared statement. */
    static List<String> ask(PostgresqlConnection connection, String sql, Object... parameters) {
        var statement = connection.createStatement(sql);
        for (int i = 0; i < parameters.length; i++) {
            statement.bind(i, parameters[i]);
        }
        Flux<String> rows = statement.execute().concatMap(result -> result.map(row -> String.valueOf(row.get(0))));
        return Objects.requireNonNull(rows.collectList().block(PATIENCE));
    }

    static int pid(PostgresqlConnection connection) {
        return Integer.parseInt(ask(connection, "select pg_backend_pid()").get(0));
    }

    /** The SQLSTATE that a call ends with, or null if it succeeds. */
    static @Nullable String sqlState(Mono<?> call) {
        return sqlState(call.toFuture());
    }

    static @Nullable String sqlState(CompletableFuture<?> call) {
        try {
            call.get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
            return null;
        } catch (ExecutionException | CompletionException e) {
            if (e.getCause() instanceof R2dbcException error) {
                return error.getSqlState();
            }
            throw new AssertionError(e.getCause());
        } catch (TimeoutException e) {
            throw new AssertionError("no end within " + PATIENCE, e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new AssertionError(e);
        }
    }

    /** Waits until this many advisory locks are being waited for in the server. */
    void awaitWaiting(int count) {
        Await.until(count + " waiting", () -> waiting() == count);
    }

    long waiting() {
        return server.count("select count(*) from pg_locks where locktype = 'advisory' and not granted");
    }

    long held() {
        return server.count("select count(*) from pg_locks where locktype = 'advisory' and granted");
    }

    @Override
    public void close() {
        Flux.fromIterable(open).concatMap(PostgresqlConnection::close).blockLast(PATIENCE);
    }
}
