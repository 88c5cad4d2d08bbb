package io.r2lock;

import io.r2dbc.spi.Connection;
import io.r2dbc.spi.Statement;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.function.ToIntFunction;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * The clients of one test, and the SQL that its work runs.
 *
 * <p>Registered before {@link NoResidue}, so that they are closed after it has looked at them: closing ends what a test left.
 */
final class NestingClients implements AfterEachCallback {

    /** Generous: a cold machine takes seconds for its first connection. */
    static final Duration PATIENCE = Duration.ofSeconds(20);

    private final ConcurrentLinkedQueue<DefaultAdvisoryLocks> open = new ConcurrentLinkedQueue<>();

    /** A client of the server whose pool and gates must be empty at the end of the test. */
    DefaultAdvisoryLocks on(TestServer server, NoResidue residue) {
        return on(server, residue, builder -> builder);
    }

    DefaultAdvisoryLocks on(TestServer server, NoResidue residue, UnaryOperator<AdvisoryLocks.Builder> change) {
        return with(AdvisoryLocks.builder(server.connectionFactory()), residue, change);
    }

    DefaultAdvisoryLocks with(
            AdvisoryLocks.Builder builder, NoResidue residue, UnaryOperator<AdvisoryLocks.Builder> change) {
        DefaultAdvisoryLocks client = (DefaultAdvisoryLocks)
                change.apply(builder.closeGrace(Duration.ofSeconds(1)).connectTimeout(PATIENCE))
                        .build();
        open.add(client);
        residue.zero("pool acquired", () -> sum(one -> one.connections().acquired()));
        residue.zero("pool pending", () -> sum(one -> one.connections().pending()));
        residue.zero("gates", () -> sum(one -> one.gates().size()));
        residue.zero("session locks", () -> sum(one -> one.sessions().held()));
        residue.zero(
                "waiting connections in use",
                () -> sum(one -> one.sessions().waiting().acquired()));
        return client;
    }

    private int sum(ToIntFunction<DefaultAdvisoryLocks> gauge) {
        return open.stream().mapToInt(gauge).sum();
    }

    @Override
    public void afterEach(ExtensionContext context) {
        Flux.fromIterable(open).flatMap(AdvisoryLocks::close).blockLast(PATIENCE);
        open.clear();
    }

    /** The first column of all rows, as text; parameters, if any, make it a prepared statement. */
    static Mono<List<String>> rows(Connection connection, String sql, Object... parameters) {
        return Mono.defer(() -> {
            Statement statement = connection.createStatement(sql);
            for (int i = 0; i < parameters.length; i++) {
                statement.bind(i, parameters[i]);
            }
            return Flux.from(statement.execute())
                    .concatMap(result -> result.map((row, metadata) -> String.valueOf(row.get(0))))
                    .collectList();
        });
    }

    /** The one value that a query answers. */
    static Mono<String> one(Connection connection, String sql, Object... parameters) {
        return rows(connection, sql, parameters).map(rows -> rows.get(0));
    }

    /** Runs a statement for its effect. */
    static Mono<Void> run(Connection connection, String sql) {
        return Flux.from(connection.createStatement(sql).execute())
                .concatMap(result -> result.getRowsUpdated())
                .then();
    }

    static <T> T get(Mono<T> mono) {
        return Objects.requireNonNull(mono.block(PATIENCE), "empty");
    }

    static void end(Mono<Void> mono) {
        mono.block(PATIENCE);
    }

    /** Whether some session holds the key, whose number is small, in whatever mode. */
    static boolean isHeld(TestServer server, LockKey key) {
        return server.count("select count(*) from pg_locks where locktype = 'advisory' and granted and objsubid = 1"
                        + " and classid = 0 and objid = " + key.value())
                > 0;
    }

    static long waiting(TestServer server) {
        return server.count("select count(*) from pg_locks where locktype = 'advisory' and not granted");
    }
}
