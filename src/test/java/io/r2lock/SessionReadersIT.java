package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Mono;

/** Readers of one process that share a lock: nobody but a writer keeps them out, and the lock that they share keeps no writer out. */
class SessionReadersIT {

    private static final int LIMIT = 4;
    private static final LockKey A = LockKey.of(5_001);
    private static final LockKey B = LockKey.of(5_002);

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private DefaultAdvisoryLocks locks;

    @SuppressWarnings("NullAway.Init")
    SessionReadersIT() {}

    @BeforeEach
    void open() {
        locks = clients.open(server, builder -> builder.handOffLimit(LIMIT));
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    private LockRequest reader() {
        return locks.shared(A).inSession().waitAtMost(PATIENCE);
    }

    @Test
    void aLongRead_keepsNoLaterReaderOut_howeverManyCome() {
        HeldLock longRead = acquire(reader());
        for (int i = 0; i < 3 * LIMIT; i++) {
            assertThat(reader().guard(Mono.just(i)).block(PATIENCE)).isEqualTo(i);
            assertThat(reader().noWait().guard(Mono.just(i)).block(PATIENCE)).isEqualTo(i);
        }
        release(longRead);
    }

    @Test
    void whenTheLimitIsReached_aWriterWhoWaitsElsewhereComesFirst() {
        HeldLock longRead = acquire(reader());
        PostgresqlConnection writer = sessions.open();
        CompletableFuture<Void> written = Sessions.send(
                        writer, "select pg_advisory_lock(5001);select pg_advisory_unlock(5001)")
                .toFuture();
        Await.until("a writer", () -> sessions.waiting() == 1);
        for (int i = 0; i < LIMIT; i++) {
            assertThat(reader().guard(Mono.just(i)).block(PATIENCE)).isEqualTo(i);
        }
        assertThatThrownBy(() -> reader().noWait().guard(Mono.just(1)).block(PATIENCE))
                .isInstanceOf(LockNotAvailableException.class);
        CompletableFuture<Integer> late = reader().guard(Mono.just(1)).toFuture();
        Await.until("the writer and the reader behind it", () -> sessions.waiting() == 2);
        release(longRead);
        assertThat(written).succeedsWithin(PATIENCE);
        assertThat(late).succeedsWithin(PATIENCE).isEqualTo(1);
    }

    @Test
    void aReaderThatStillWaitsForAnotherKey_sharesWhatItHas() {
        PostgresqlConnection other = TestClients.holdElsewhere(sessions, 5_002);
        // which waits on the only connection that could also be asked for the first key
        DefaultAdvisoryLocks narrow = clients.open(server, builder -> builder.waitingConnections(1));
        CompletableFuture<Integer> both = narrow.shared(A, B)
                .inSession()
                .waitAtMost(PATIENCE)
                .guard(Mono.just(1))
                .toFuture();
        Await.until("waiting for the second key", () -> sessions.waiting() == 1);
        assertThat(narrow.shared(A).inSession().noWait().guard(Mono.just(2)).block(PATIENCE))
                .isEqualTo(2);
        TestClients.free(other, 5_002);
        assertThat(both).succeedsWithin(PATIENCE).isEqualTo(1);
    }
}
