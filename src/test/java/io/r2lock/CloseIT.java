package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.execute;
import static io.r2lock.TestClients.holdElsewhere;
import static io.r2lock.TestClients.release;
import static io.r2lock.TestClients.since;
import static io.r2lock.TestClients.warm;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import java.time.Duration;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** The end of a client, and holds that last too long. */
class CloseIT {

    private static final LockKey A = LockKey.named("closing", "a secret");
    private static final LockKey B = LockKey.of(5_002);

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @BeforeEach
    void setUp() {
        server.execute("drop table if exists closing", "create table closing (id int)");
    }

    @AfterEach
    void closeSessions() {
        sessions.close();
    }

    private DefaultAdvisoryLocks client(Duration grace) {
        return clients.open(server, builder -> builder.closeGrace(grace).applicationName("r2lock-closing"));
    }

    private long backends() {
        return server.count("select count(*) from pg_stat_activity where application_name = 'r2lock-closing'");
    }

    private static void assertClosed(Mono<?> call) {
        assertThatThrownBy(() -> call.block(PATIENCE)).isInstanceOf(LocksClosedException.class);
    }

    @Test
    void closedClient_refusesAll_alsoWhatWasAssembledBefore_andHasNoBackendLeft() {
        DefaultAdvisoryLocks locks = client(Duration.ofSeconds(10));
        warm(locks, 5);
        Mono<Integer> before = locks.withAdvisoryLock(A, Mono.just(1));
        Mono<HeldLock> acquireBefore = locks.shared(A).acquire();
        assertThat(before.block(PATIENCE)).isEqualTo(1);
        assertThat(backends()).isEqualTo(5);

        long start = System.nanoTime();
        locks.close().block(PATIENCE);
        assertThat(since(start)).isLessThan(Duration.ofSeconds(2));
        Await.until("end of the backends", () -> backends() == 0);

        assertClosed(before);
        assertClosed(acquireBefore);
        assertClosed(locks.exclusive(A).skipIfBusy().guard(Mono.just(1)));
        assertClosed(locks.withAdvisoryLock(A, (org.reactivestreams.Publisher<Integer>) Mono.just(1))
                .last());
        locks.close().block(PATIENCE);
        assertThat(backends()).isZero();
    }

    @Test
    void whoWaits_isToldAtOnce_whereverItWaits() {
        DefaultAdvisoryLocks locks = client(Duration.ofSeconds(10));
        holdElsewhere(sessions, 5_002);
        HeldLock hold = acquire(locks.exclusive(A));
        List<CompletableFuture<Integer>> waiting = List.of(
                locks.withAdvisoryLock(A, Mono.just(1)).toFuture(),
                locks.withAdvisoryLock(B, Mono.just(1)).toFuture());
        sessions.awaitWaiting(1);

        CompletableFuture<Void> closed = locks.close().toFuture();
        for (CompletableFuture<Integer> one : waiting) {
            assertThat(one)
                    .failsWithin(Duration.ofSeconds(2))
                    .withThrowableThat()
                    .withCauseInstanceOf(LocksClosedException.class);
        }
        assertThat(sessions.waiting()).isZero();
        assertThat(closed).isNotDone();
        release(hold);
        assertThat(closed).succeedsWithin(PATIENCE);
    }

    @Test
    void hold_mayFinishWithinTheGrace_alsoWhenWhoClosesGoesAway() {
        DefaultAdvisoryLocks locks = client(Duration.ofSeconds(10));
        Sinks.Empty<Void> finish = Sinks.empty();
        CompletableFuture<Integer> holding = locks.exclusive(A)
                .guard((HeldLock hold) -> execute(hold, "insert into closing values (1)")
                        .then(finish.asMono())
                        .thenReturn(1))
                .toFuture();
        // the client's look at the server takes a lock for an instant, too
        Await.until(
                "the hold", () -> locks.connections().open().stream().anyMatch(one -> one.holder() instanceof Hold));
        locks.close().subscribe().dispose();
        CompletableFuture<Void> closed = locks.close().toFuture();
        assertThat(closed).isNotDone();
        finish.tryEmitEmpty().orThrow();

        assertThat(holding).succeedsWithin(PATIENCE).isEqualTo(1);
        assertThat(closed).succeedsWithin(PATIENCE);
        assertThat(server.count("select count(*) from closing")).isEqualTo(1);
        Await.until("end of the backends", () -> backends() == 0);
    }

    @Test
    void hold_isCancelledAndRolledBackAfterTheGrace_andToldWhy() {
        DefaultAdvisoryLocks locks = client(Duration.ofMillis(300));
        Sinks.Empty<Void> cancelled = Sinks.empty();
        CompletableFuture<Object> holding = locks.exclusive(A)
                .guard((HeldLock hold) -> execute(hold, "insert into closing values (1)")
                        .then(Mono.never().doOnCancel(cancelled::tryEmitEmpty)))
                .toFuture();
        HeldLock given = acquire(locks.exclusive(B));
        Await.until("both holds", () -> sessions.held() == 2);

        long start = System.nanoTime();
        locks.close().block(PATIENCE);
        assertThat(since(start)).isBetween(Duration.ofMillis(300), Duration.ofSeconds(2));
        assertThat(holding).failsWithin(PATIENCE).withThrowableThat().withCauseInstanceOf(LocksClosedException.class);
        cancelled.asMono().block(PATIENCE);
        assertClosed(given.commit());
        given.release().block(PATIENCE);
        assertThat(server.count("select count(*) from closing")).isZero();
        Await.until("end of the backends", () -> backends() == 0);
    }

    @Test
    void close_whileAConnectionIsBeingOpened_leavesNoBackend() {
        for (int i = 0; i < 20; i++) {
            DefaultAdvisoryLocks locks = client(Duration.ZERO);
            CompletableFuture<Integer> opening =
                    locks.withAdvisoryLock(A, Mono.just(1)).toFuture();
            locks.close().block(PATIENCE);
            Await.until("an end", opening::isDone);
        }
        Await.until("end of the backends", () -> backends() == 0);
    }

    @Test
    void close_whileHoldsAreBeingGranted_endsThem() {
        for (int i = 0; i < 20; i++) {
            DefaultAdvisoryLocks locks = client(Duration.ZERO);
            List<CompletableFuture<Object>> calls = IntStream.range(0, 10)
                    .mapToObj(n -> locks.withAdvisoryLock(LockKey.of(5_100 + n), Mono.never())
                            .toFuture())
                    .toList();
            Await.until(
                    "a hold",
                    () -> calls.stream().anyMatch(CompletableFuture::isDone)
                            || locks.connections().acquired() > 0);
            locks.close().block(Duration.ofSeconds(5));
            Await.until("an end", () -> calls.stream().allMatch(CompletableFuture::isDone));
        }
    }

    @Test
    void longHold_isToldOnce_withItsKeyButNotItsName() {
        residue.allowLog(Level.WARN, "io.r2lock");
        ListAppender<ILoggingEvent> log = new ListAppender<>();
        log.start();
        Logger logger = (Logger) LoggerFactory.getLogger(HoldReports.class);
        logger.addAppender(log);
        Queue<LockKey> told = new ConcurrentLinkedQueue<>();
        DefaultAdvisoryLocks locks = clients.open(
                server,
                builder -> builder.holdWarning(Duration.ofMillis(100)).listener(new LockListener() {
                    @Override
                    public void longHold(List<LockKey> keys, LockMode mode, Duration age) {
                        assertThat(mode).isEqualTo(LockMode.SHARED);
                        assertThat(age).isGreaterThan(Duration.ofMillis(100));
                        told.addAll(keys);
                    }
                }));
        HeldLock hold = acquire(locks.shared(A));
        Mono.delay(Duration.ofMillis(2_300)).block(PATIENCE);
        release(hold);
        logger.detachAppender(log);

        assertThat(told).containsExactly(A);
        assertThat(log.list).singleElement().satisfies(event -> {
            assertThat(event.getLevel()).isEqualTo(ch.qos.logback.classic.Level.WARN);
            assertThat(event.getFormattedMessage())
                    .contains(A.label())
                    .contains("backend " + hold.backendPid())
                    .doesNotContain("a secret");
        });
    }
}
