package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.free;
import static io.r2lock.TestClients.holdElsewhere;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.stream.LongStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Mono;

/** Keys that other processes have, more than there are connections to wait on; and the end of a client that waits and holds. */
class WaitingConnectionsIT {

    private static final long[] KEYS = {48_001, 48_002, 48_003};

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @AfterEach
    void closeSessions() {
        sessions.close();
    }

    private DefaultAdvisoryLocks client(Duration grace) {
        return clients.open(
                server,
                builder -> builder.waitingConnections(1).closeGrace(grace).applicationName("r2lock-waiting"));
    }

    private long backends() {
        return server.count("select count(*) from pg_stat_activity where application_name like 'r2lock-waiting%'");
    }

    private static List<CompletableFuture<Long>> waitFor(DefaultAdvisoryLocks locks) {
        return LongStream.of(KEYS)
                .mapToObj(key -> locks.exclusive(LockKey.of(key))
                        .inSession()
                        .guard(Mono.just(key))
                        .toFuture())
                .toList();
    }

    /** How often each request in a pause has tried shows on the shared connection, which must be busy with that. */
    private void awaitTries() {
        Await.until(
                "a try",
                () -> server.count("select count(*) from pg_stat_activity where application_name = 'r2lock-waiting'"
                                + " and query like '%pg_try_advisory_lock%' and query_start > now() - interval '1 s'")
                        > 0);
    }

    @Test
    void moreKeysThanConnectionsToWaitOn_arePolled() {
        PostgresqlConnection other = holdElsewhere(sessions, KEYS);
        DefaultAdvisoryLocks locks = client(Duration.ofSeconds(10));
        List<CompletableFuture<Long>> waiting = waitFor(locks);
        sessions.awaitWaiting(1);
        awaitTries();
        assertThat(sessions.waiting()).isEqualTo(1);
        assertThat(backends()).as("shared, waited on, heartbeat").isEqualTo(3);
        assertThat(waiting).noneMatch(CompletableFuture::isDone);
        for (long key : KEYS) {
            free(other, key);
        }
        for (int i = 0; i < KEYS.length; i++) {
            assertThat(waiting.get(i)).succeedsWithin(PATIENCE).isEqualTo(KEYS[i]);
        }
        Await.until("all back", () -> sessions.held() == 0);
    }

    @Test
    void close_endsWaitsAtOnce_onTheServerAndInPauses() {
        holdElsewhere(sessions, KEYS);
        DefaultAdvisoryLocks locks = client(Duration.ofSeconds(10));
        List<CompletableFuture<Long>> waiting = waitFor(locks);
        sessions.awaitWaiting(1);
        awaitTries();
        CompletableFuture<Void> closed = locks.close().toFuture();
        assertThat(waiting)
                .allSatisfy(call -> assertThat(call)
                        .failsWithin(PATIENCE)
                        .withThrowableThat()
                        .withCauseInstanceOf(LocksClosedException.class));
        assertThat(closed).succeedsWithin(PATIENCE);
        assertThat(sessions.waiting()).isZero();
        Await.until("end of the backends", () -> backends() == 0);
        assertThat(sessions.held()).isEqualTo(KEYS.length);
    }

    @Test
    void close_endsHoldsAfterTheGrace_sharedOnesAndThoseThatWereWaitedFor() {
        PostgresqlConnection other = holdElsewhere(sessions, KEYS[0]);
        DefaultAdvisoryLocks locks = client(Duration.ofMillis(300));
        CompletableFuture<Void> cancelled = new CompletableFuture<>();
        CompletableFuture<Object> waitedFor = locks.exclusive(LockKey.of(KEYS[0]))
                .inSession()
                .guard(Mono.never().doOnCancel(() -> cancelled.complete(null)))
                .toFuture();
        sessions.awaitWaiting(1);
        free(other, KEYS[0]);
        HeldLock given = acquire(locks.exclusive(LockKey.of(KEYS[1])).inSession());
        Await.until("both holds", () -> sessions.held() == 2);

        long start = System.nanoTime();
        locks.close().block(PATIENCE);
        assertThat(TestClients.since(start)).isGreaterThanOrEqualTo(Duration.ofMillis(300));
        assertThat(waitedFor).failsWithin(PATIENCE).withThrowableThat().withCauseInstanceOf(LocksClosedException.class);
        assertThat(cancelled).succeedsWithin(PATIENCE);
        assertThat(given.commit().toFuture())
                .failsWithin(PATIENCE)
                .withThrowableThat()
                .withCauseInstanceOf(LocksClosedException.class);
        given.release().block(PATIENCE);
        Await.until("end of the backends", () -> backends() == 0);
        assertThat(sessions.held()).isZero();
        assertThat(locks.exclusive(LockKey.of(KEYS[1])).inSession().acquire().toFuture())
                .failsWithin(PATIENCE)
                .withThrowableThat()
                .withCauseInstanceOf(LocksClosedException.class);
    }

    @Test
    void close_waitsForAHoldThatEndsWithinTheGrace() {
        DefaultAdvisoryLocks locks = client(Duration.ofSeconds(20));
        HeldLock hold = acquire(locks.exclusive(LockKey.of(KEYS[0])).inSession());
        CompletableFuture<Void> closed = locks.close().toFuture();
        assertThat(closed).isNotDone();
        assertThat(hold.commit().toFuture()).succeedsWithin(PATIENCE);
        assertThat(closed).succeedsWithin(PATIENCE);
        Await.until("end of the backends", () -> backends() == 0);
    }
}
