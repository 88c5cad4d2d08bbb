package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.free;
import static io.r2lock.TestClients.holdElsewhere;
import static io.r2lock.TestClients.release;
import static io.r2lock.TestClients.since;
import static io.r2lock.TestClients.warm;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Waits that end early: on time, wherever the time went, and leaving nothing in the server's queue. */
class WaitingIT {

    private static final LockKey A = LockKey.of(2_001);
    private static final LockKey B = LockKey.of(2_002);
    private static final Duration WAIT = Duration.ofMillis(300);
    private static final Duration LATEST = Duration.ofMillis(400);
    private static final Duration NEARLY_ALL = Duration.ofMillis(250);
    private static final Duration LITTLE = Duration.ofMillis(50);

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    /** The first CancelRequest of a JVM loads what it needs, which is no part of the times here. */
    @BeforeAll
    static void warmUp() {
        NoResidue unused = NoResidue.on();
        TestClients clients = new TestClients(unused);
        try (Sessions sessions = new Sessions(TestServer.newest())) {
            DefaultAdvisoryLocks locks = clients.open(TestServer.newest());
            warm(locks, 2);
            holdElsewhere(sessions, 2_001);
            assertThatThrownBy(() -> acquire(locks.exclusive(A).waitAtMost(LITTLE)))
                    .isInstanceOf(LockTimeoutException.class);
        } finally {
            clients.close();
        }
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    private DefaultAdvisoryLocks client(int maxConnections) {
        DefaultAdvisoryLocks client = clients.open(server, builder -> builder.maxConnections(maxConnections));
        warm(client, maxConnections);
        return client;
    }

    /** Never early; and on time at least once in three, as a busy machine may be late itself. */
    private static LockTimeoutException timeOut(LockRequest request) {
        return timeOut(request, 3);
    }

    private static LockTimeoutException timeOut(LockRequest request, int attempts) {
        long start = System.nanoTime();
        LockTimeoutException late = catchThrowableOfType(
                LockTimeoutException.class, () -> request.acquire().block(PATIENCE));
        Duration took = since(start);
        assertThat(took).isGreaterThanOrEqualTo(WAIT);
        if (attempts > 1 && took.compareTo(LATEST) > 0) {
            return timeOut(request, attempts - 1);
        }
        assertThat(took).isLessThanOrEqualTo(LATEST);
        assertThat(late.waited()).isBetween(WAIT, LATEST);
        return late;
    }

    @Test
    void deadline_holdsAtTheGate() {
        DefaultAdvisoryLocks locks = client(2);
        HeldLock hold = acquire(locks.exclusive(A));
        LockTimeoutException late = timeOut(locks.exclusive(A).waitAtMost(WAIT));
        assertThat(late.atGate()).isGreaterThan(NEARLY_ALL);
        assertThat(late.forConnection()).isLessThan(LITTLE);
        assertThat(late.onServer()).isLessThan(LITTLE);
        release(hold);
    }

    @Test
    void deadline_holdsForTheConnection() {
        DefaultAdvisoryLocks locks = client(1);
        HeldLock hold = acquire(locks.exclusive(A));
        LockTimeoutException late = timeOut(locks.exclusive(B).waitAtMost(WAIT));
        assertThat(late.atGate()).isLessThan(LITTLE);
        assertThat(late.forConnection()).isGreaterThan(NEARLY_ALL);
        assertThat(late.onServer()).isLessThan(LITTLE);
        release(hold);
    }

    @Test
    void deadline_holdsOnTheServer() {
        DefaultAdvisoryLocks locks = client(2);
        holdElsewhere(sessions, 2_001);
        LockTimeoutException late = timeOut(locks.exclusive(A).waitAtMost(WAIT));
        assertThat(late.atGate()).isLessThan(LITTLE);
        assertThat(late.forConnection()).isLessThan(LITTLE);
        assertThat(late.onServer()).isGreaterThan(NEARLY_ALL);
        assertThat(sessions.waiting()).isZero();
    }

    @Test
    void deadline_holdsForAPoller_andItsPausesAreTimeOnTheServer() {
        DefaultAdvisoryLocks locks = client(1);
        holdElsewhere(sessions, 2_001);
        LockTimeoutException late = timeOut(locks.exclusive(A).waitAtMost(WAIT));
        assertThat(late.onServer()).isGreaterThan(NEARLY_ALL);
    }

    @Test
    void deadline_isOneForAllKeys_thoughTheServerCountsPerKey() {
        DefaultAdvisoryLocks locks = client(2);
        List<PostgresqlConnection> others =
                List.of(holdElsewhere(sessions, 2_101), holdElsewhere(sessions, 2_102), holdElsewhere(sessions, 2_103));
        LockRequest three = locks.exclusive(LockKey.of(2_101), LockKey.of(2_102), LockKey.of(2_103));
        Disposable freeing = Flux.range(0, 3)
                .delayElements(NEARLY_ALL)
                .concatMap(i -> Sessions.send(others.get(i), "select pg_advisory_unlock(" + (2_101 + i) + ")"))
                .subscribe();

        LockTimeoutException late = timeOut(three.waitAtMost(WAIT));
        assertThat(late.onServer()).isGreaterThan(NEARLY_ALL);
        assertThat(sessions.waiting()).isZero();
        Await.until("freed", freeing::isDisposed);
        assertThat(sessions.held()).isZero();
    }

    @Test
    void defaultWait_isForRequestsThatDoNotSay() {
        DefaultAdvisoryLocks locks = clients.open(server, builder -> builder.defaultWait(WAIT));
        warm(locks, 2);
        HeldLock hold = acquire(locks.exclusive(A));
        timeOut(locks.exclusive(A));
        CompletableFuture<Integer> longer =
                locks.exclusive(A).waitForever().guard(Mono.just(1)).toFuture();
        timeOut(locks.exclusive(A));
        assertThat(longer).isNotDone();
        release(hold);
        assertThat(longer).succeedsWithin(PATIENCE);
    }

    @Test
    void cancelledWait_leavesTheServersQueueAtOnce() {
        DefaultAdvisoryLocks locks = client(2);
        holdElsewhere(sessions, 2_001);
        List<Duration> times = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            Disposable waiting = locks.withAdvisoryLock(A, Mono.just(1)).subscribe(value -> {}, error -> {});
            sessions.awaitWaiting(1);
            long cancelled = System.nanoTime();
            waiting.dispose();
            sessions.awaitWaiting(0);
            times.add(since(cancelled));
        }
        times.sort(null);
        assertThat(times.get(5)).as("median of %s", times).isLessThan(Duration.ofMillis(100));
        assertThat(locks.withAdvisoryLock(B, Mono.just(1)).block(PATIENCE)).isEqualTo(1);
    }

    @Test
    void timedOutWait_isOutOfTheServersQueueWhenItsCallerIsTold() {
        DefaultAdvisoryLocks locks = client(2);
        holdElsewhere(sessions, 2_001);
        Duration wait = Duration.ofMillis(100);
        for (int i = 0; i < 5; i++) {
            long start = System.nanoTime();
            assertThatThrownBy(() -> acquire(locks.exclusive(A).waitAtMost(wait)))
                    .isInstanceOf(LockTimeoutException.class);
            assertThat(since(start)).isGreaterThanOrEqualTo(wait);
            assertThat(sessions.waiting()).isZero();
        }
    }

    @Test
    void timeoutOperatorOfReactor_isACancel() {
        DefaultAdvisoryLocks locks = client(2);
        PostgresqlConnection other = holdElsewhere(sessions, 2_001);
        assertThatThrownBy(() -> locks.withAdvisoryLock(A, Mono.just(1))
                        .timeout(Duration.ofMillis(100))
                        .block(PATIENCE))
                .hasRootCauseInstanceOf(java.util.concurrent.TimeoutException.class);
        sessions.awaitWaiting(0);
        free(other, 2_001);
        assertThat(locks.withAdvisoryLock(A, Mono.just(1)).block(PATIENCE)).isEqualTo(1);
    }

    @Test
    void maxWaiters_refusesOneMore_andCountsOnlyThoseWhoWait() {
        DefaultAdvisoryLocks locks = clients.open(server, builder -> builder.maxWaiters(2));
        HeldLock hold = acquire(locks.exclusive(A));
        CompletableFuture<Integer> first =
                locks.withAdvisoryLock(A, Mono.just(1)).toFuture();
        Disposable second = locks.withAdvisoryLock(A, Mono.just(2)).subscribe();
        assertThatThrownBy(() -> acquire(locks.exclusive(B)))
                .isInstanceOf(LockNotAvailableException.class)
                .hasMessageContaining("queue is full")
                .hasMessageContaining("maxWaiters");
        assertThatThrownBy(() ->
                        locks.exclusive(B).skipIfBusy().guard(Mono.just(1)).block(PATIENCE))
                .isInstanceOf(LockNotAvailableException.class);

        second.dispose();
        assertThat(locks.withAdvisoryLock(B, Mono.just(3)).block(PATIENCE)).isEqualTo(3);
        release(hold);
        assertThat(first).succeedsWithin(PATIENCE).isEqualTo(1);
    }

    @Test
    void cancelBeforeAnythingHappened_leavesNothing() {
        DefaultAdvisoryLocks locks = client(1);
        for (int i = 0; i < 100; i++) {
            locks.withAdvisoryLock(A, Mono.just(1)).subscribe(new reactor.core.publisher.BaseSubscriber<>() {
                @Override
                protected void hookOnSubscribe(org.reactivestreams.Subscription subscription) {
                    subscription.cancel();
                }
            });
        }
        // what is left alive would keep this waiting until the end of the grace, and after
        assertThat(locks.close().toFuture()).succeedsWithin(Duration.ofSeconds(2));
    }
}
