package io.r2lock;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Row;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import org.jspecify.annotations.Nullable;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.MonoSink;

/** Opens lock connections: connects, sets up in one round trip, and gives up in time. */
final class ConnectionOpener {

    private final PostgresqlConnectionFactory factory;
    private final ClientOptions options;
    private final String setUp;
    private final String clean;

    ConnectionOpener(PostgresqlConnectionFactory factory, ClientOptions options) {
        this.factory = factory;
        this.options = options;
        this.setUp = LockSql.setUp(options.settings());
        this.clean = LockSql.clean(options.settings());
    }

    Mono<LockConnection> open(int generation) {
        return Mono.create(sink -> new Opening(sink, generation).start());
    }

    /**
     * One connection being opened. Neither the driver's connecting nor the set-up statement is ever cancelled: whichever
     * comes first, the connection or the deadline, takes {@code decided}, and a connection that comes second is closed.
     */
    private final class Opening {

        private final MonoSink<LockConnection> sink;
        private final int generation;
        private final AtomicBoolean decided = new AtomicBoolean();
        private volatile @Nullable PostgresqlConnection wire;
        private volatile @Nullable Disposable deadline;

        Opening(MonoSink<LockConnection> sink, int generation) {
            this.sink = sink;
            this.generation = generation;
        }

        void start() {
            deadline = options.clock()
                    .schedule(this::tooLate, options.connectTimeout().toNanos(), TimeUnit.NANOSECONDS);
            Mono.defer(factory::create).subscribe(this::setUp, this::fail);
        }

        private void setUp(PostgresqlConnection connected) {
            wire = connected;
            if (decided.get()) {
                close(connected);
                return;
            }
            Flux.from(connected.createStatement(setUp).fetchSize(0).execute())
                    .concatMap(result -> result.map((row, metadata) -> facts(row)))
                    .last()
                    .subscribe(facts -> succeed(connected, facts), this::fail);
        }

        private LockConnection.Facts facts(Row row) {
            return new LockConnection.Facts(
                    Arguments.notNull("pid", row.get(0, Integer.class)),
                    Arguments.notNull("encoding", row.get(1, String.class)),
                    new LockConnection.Limits(
                            Arguments.notNull("lock_timeout", row.get(2, String.class)),
                            Arguments.notNull("statement_timeout", row.get(3, String.class))));
        }

        private void succeed(PostgresqlConnection connected, LockConnection.Facts facts) {
            if (decide()) {
                sink.success(new LockConnection(connected, facts, clean, options.clock(), generation));
            } else {
                close(connected);
            }
        }

        private void fail(Throwable error) {
            PostgresqlConnection connected = wire;
            if (connected != null) {
                close(connected);
            }
            if (decide()) {
                sink.error(error);
            }
        }

        private void tooLate() {
            if (decide()) {
                PostgresqlConnection connected = wire;
                if (connected != null) {
                    close(connected);
                }
                sink.error(new TimeoutException(
                        "no connection within " + options.connectTimeout().toMillis() + " ms (connectTimeout)"));
            }
        }

        private boolean decide() {
            if (!decided.compareAndSet(false, true)) {
                return false;
            }
            Disposable timer = deadline;
            if (timer != null) {
                timer.dispose();
            }
            return true;
        }

        private void close(PostgresqlConnection connected) {
            connected.close().subscribe(done -> {}, error -> {});
        }
    }
}
