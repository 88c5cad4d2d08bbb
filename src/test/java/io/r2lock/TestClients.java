package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.ConnectionFactory;
import io.r2dbc.spi.Result;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.Semaphore;
import java.util.function.Consumer;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * The clients of a test. {@link NoResidue} watches their gauges, and they are closed after it has looked, so that closing
 * them hides nothing.
 *
 * <p>For that it must be registered before it: {@code @Order(1)}, and {@code @Order(2)} on the {@link NoResidue}.
 */
final class TestClients implements AfterEachCallback {

    /** Longer than anything that works takes, on the slowest machine. */
    static final Duration PATIENCE = Duration.ofSeconds(20);

    private final NoResidue residue;
    private final List<DefaultAdvisoryLocks> open = new CopyOnWriteArrayList<>();

    TestClients(NoResidue residue) {
        this.residue = residue;
    }

    DefaultAdvisoryLocks open(TestServer server) {
        return open(server.connectionFactory(), builder -> {});
    }

    DefaultAdvisoryLocks open(TestServer server, Consumer<ClientBuilder> options) {
        return open(server.connectionFactory(), options);
    }

    DefaultAdvisoryLocks open(ConnectionFactory factory, Consumer<ClientBuilder> options) {
        // the first connection of a JVM on a busy machine takes its time
        ClientBuilder builder = new ClientBuilder(factory).connectTimeout(PATIENCE);
        options.accept(builder);
        DefaultAdvisoryLocks client = (DefaultAdvisoryLocks) builder.build();
        open.add(client);
        String of = open.size() == 1 ? "" : " of client " + open.size();
        residue.zero("pool acquired" + of, client.connections()::acquired);
        residue.zero("pool pending" + of, client.connections()::pending);
        residue.zero("gates" + of, client.gates()::size);
        residue.zero("permit gates" + of, client.permits()::size);
        residue.zero("session locks" + of, client.sessions()::held);
        residue.zero("waiting connections in use" + of, client.sessions().waiting()::acquired);
        return client;
    }

    /** Opens this many connections and leaves them idle. */
    static void warm(DefaultAdvisoryLocks client, int connections) {
        Flux.range(0, connections)
                .flatMap(
                        i -> client.withAdvisoryLock(
                                LockKey.of(9_000_000 + i),
                                Mono.delay(Duration.ofMillis(1))
                                        .repeat(() -> client.connections().allocated() < connections)
                                        .then(Mono.just(i))),
                        connections)
                .blockLast(PATIENCE);
        Await.until("idle connections", () -> client.connections().acquired() == 0);
    }

    /** Runs SQL on the connection of a hold. */
    static Mono<Void> execute(HeldLock hold, String sql) {
        return Flux.from(hold.connection().createStatement(sql).execute())
                .flatMap(Result::getRowsUpdated)
                .then();
    }

    static HeldLock acquire(LockRequest request) {
        return Objects.requireNonNull(request.acquire().block(PATIENCE));
    }

    static void release(HeldLock hold) {
        hold.release().block(PATIENCE);
    }

    /** Takes keys for another process, as bare SQL would; {@link #free} gives them back. */
    static PostgresqlConnection holdElsewhere(Sessions sessions, long... keys) {
        PostgresqlConnection other = sessions.open();
        for (long key : keys) {
            Sessions.run(other, "select pg_advisory_lock(" + key + ")");
        }
        return other;
    }

    static void free(PostgresqlConnection other, long key) {
        Sessions.run(other, "select pg_advisory_unlock(" + key + ")");
    }

    static Duration since(long startNanos) {
        return Duration.ofNanos(System.nanoTime() - startNanos);
    }

    /** Waits until the semaphore has that many permits, and takes them. */
    static void await(Semaphore signals, int count) {
        Await.until(count + " signals", () -> signals.tryAcquire(count));
    }

    @Override
    public void afterEach(ExtensionContext context) {
        close();
    }

    void close() {
        for (DefaultAdvisoryLocks client : open) {
            client.close().block(PATIENCE);
        }
        open.clear();
    }
}
