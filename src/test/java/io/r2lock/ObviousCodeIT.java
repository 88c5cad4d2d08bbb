package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.netty.util.ResourceLeakDetector;
import io.r2dbc.pool.ConnectionPool;
import io.r2dbc.pool.ConnectionPoolConfiguration;
import io.r2dbc.spi.Connection;
import java.time.Duration;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/**
 * What users write without this library, in the storm of {@link CancellationStormIT}: its check for clean borrowers can fail.
 *
 * <p>No {@link NoResidue} here, and nobody looks for leaks: that code leaks buffers of the driver's too, and they would be
 * taken for those of the next test.
 */
class ObviousCodeIT {

    private static final Logger LOG = LoggerFactory.getLogger(ObviousCodeIT.class);
    private static final Duration SOON = Duration.ofSeconds(20);
    private static final int CONNECTIONS = 10;

    private final TestServer server = TestServer.newest();
    private final Scheduler canceller = Schedulers.newParallel("canceller", 2);
    private final Storm storm = new Storm(canceller, 64);

    private final ResourceLeakDetector.Level leakDetection = ResourceLeakDetector.getLevel();

    @BeforeEach
    void trackNoBuffers() {
        ResourceLeakDetector.setLevel(ResourceLeakDetector.Level.DISABLED);
    }

    @AfterEach
    void close() {
        ResourceLeakDetector.setLevel(leakDetection);
        canceller.dispose();
    }

    @Test
    void theObviousCode_leavesItsTransactionsToTheNextBorrower() {
        ConnectionPool pool = new ConnectionPool(ConnectionPoolConfiguration.builder(server.connectionFactory())
                .maxSize(CONNECTIONS)
                .build());
        try {
            long dirty = 0;
            int calls = 0;
            for (int round = 0; round < 20 && dirty == 0; round++) {
                for (int i = 0; i < 500; i++) {
                    int key = 70_000 + calls++;
                    storm.call(self -> naive(pool, key)).cancelSoon();
                }
                storm.awaitAll();
                dirty = dirtyBorrowers(pool);
            }
            LOG.info(
                    "usingWhen on r2dbc-pool: {} of {} next borrowers stood in somebody's transaction",
                    dirty,
                    CONNECTIONS);
            assertThat(dirty).isPositive();
        } finally {
            pool.disposeLater().block(SOON);
        }
    }

    private static Mono<Void> naive(ConnectionPool pool, int key) {
        return Mono.usingWhen(
                pool.create(),
                connection -> Mono.from(connection.beginTransaction())
                        .then(first(connection, "select pg_advisory_xact_lock(" + key + ")"))
                        .then(Mono.from(connection.commitTransaction())),
                Connection::close);
    }

    private static Mono<Object> first(Connection connection, String sql) {
        return Flux.from(connection.createStatement(sql).execute())
                .concatMap(result -> result.map((row, metadata) -> (Object) String.valueOf(row.get(0))))
                .next();
    }

    /** Borrows all at once, so that each connection is looked at once. */
    private static long dirtyBorrowers(ConnectionPool pool) {
        List<Connection> all = IntStream.range(0, CONNECTIONS)
                .mapToObj(i -> pool.create().blockOptional(SOON).orElseThrow())
                .toList();
        long dirty = all.stream()
                .filter(connection -> "false"
                        .equals(first(connection, CleanBorrowers.IS_CLEAN).block(SOON)))
                .count();
        all.forEach(connection -> Mono.from(connection.close()).block(SOON));
        return dirty;
    }
}
