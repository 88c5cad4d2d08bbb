package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Connection;
import java.util.Objects;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/**
 * A transaction that a test owns, on a connection of its own, and that stands in the Context of what runs around it: all that an
 * {@link AmbientTransaction} takes.
 */
final class OwnedTransaction implements AmbientTransaction.Participation {

    /** Made of the public API alone. */
    static final AmbientTransaction IN_CONTEXT =
            () -> Mono.deferContextual(context -> Mono.justOrEmpty(context.getOrEmpty(OwnedTransaction.class)));

    private final PostgresqlConnection connection;
    private final Sinks.Empty<Void> completion = Sinks.empty();

    private OwnedTransaction(PostgresqlConnection connection) {
        this.connection = connection;
    }

    static OwnedTransaction begin(PostgresqlConnection connection) {
        return begin(connection, "read committed");
    }

    static OwnedTransaction begin(PostgresqlConnection connection, String isolation) {
        Sessions.run(connection, "begin isolation level " + isolation);
        return new OwnedTransaction(connection);
    }

    /** One that never began. */
    static OwnedTransaction notBegun(PostgresqlConnection connection) {
        return new OwnedTransaction(connection);
    }

    <T> Mono<T> around(Mono<T> work) {
        return work.contextWrite(context -> context.put(OwnedTransaction.class, this));
    }

    /** Runs the work in it and waits. */
    <T> T run(Mono<T> work) {
        return Objects.requireNonNull(around(work).block(NestingClients.PATIENCE), "empty");
    }

    void sql(String sql) {
        Sessions.run(connection, sql);
    }

    String ask(String sql) {
        return Sessions.ask(connection, sql).get(0);
    }

    int pid() {
        return Sessions.pid(connection);
    }

    /** Tells its end, as its owner does before COMMIT. */
    void completes() {
        completion.tryEmitEmpty();
    }

    void commit() {
        completes();
        connection.commitTransaction().block(NestingClients.PATIENCE);
    }

    void rollback() {
        completes();
        sql("rollback");
    }

    @Override
    public Connection connection() {
        return connection;
    }

    PostgresqlConnection wire() {
        return connection;
    }

    @Override
    public Object transaction() {
        return this;
    }

    @Override
    public Mono<Void> completion() {
        return completion.asMono();
    }
}
