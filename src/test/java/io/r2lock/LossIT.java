package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.execute;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** Holds whose backend or server goes away: the work is cancelled and its caller told, at once. */
class LossIT {

    private static final Logger FIGURES = LoggerFactory.getLogger(LossIT.class);
    private static final LockKey A = LockKey.of(12_001);
    private static final Duration AT_ONCE = Duration.ofMillis(200);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @BeforeEach
    void lossesAreLogged() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
    }

    /** One guarded work that never ends by itself, and when it was told what. */
    private static final class Idle {

        final Sinks.One<HeldLock> granted = Sinks.one();
        final AtomicLong cancelledAt = new AtomicLong();
        final AtomicLong toldAt = new AtomicLong();
        final CompletableFuture<Object> call;

        Idle(LockRequest request) {
            call = request.guard((HeldLock hold) -> {
                        granted.tryEmitValue(hold).orThrow();
                        return Mono.never().doOnCancel(() -> cancelledAt.set(System.nanoTime()));
                    })
                    .doOnError(error -> toldAt.set(System.nanoTime()))
                    .toFuture();
        }

        HeldLock hold() {
            return java.util.Objects.requireNonNull(granted.asMono().block(PATIENCE));
        }

        /** The later of the two, counted from there. */
        Duration lostAfter(long start) {
            assertThat(call).failsWithin(PATIENCE).withThrowableThat().withCauseInstanceOf(LockLostException.class);
            assertThat(cancelledAt.get()).as("work cancelled").isNotZero();
            return Duration.ofNanos(Math.max(cancelledAt.get(), toldAt.get()) - start);
        }
    }

    @Test
    void terminatedBackend_cancelsTheWorkAndTellsItsCaller() {
        DefaultAdvisoryLocks locks = clients.open(server);
        List<Duration> took = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            Idle idle = new Idle(locks.exclusive(A));
            int pid = idle.hold().backendPid();
            long start = System.nanoTime();
            server.execute("select pg_terminate_backend(" + pid + ")");
            took.add(idle.lostAfter(start));
        }
        Collections.sort(took);
        FIGURES.info(
                "terminated backend, told after: p50 {}, p99 {}, max {}", took.get(50), took.get(98), took.get(99));
        assertThat(took.get(98)).as("p99 of 100").isLessThan(AT_ONCE);
        assertThat(locks.withAdvisoryLock(A, Mono.just(1)).block(PATIENCE)).isEqualTo(1);
    }

    @Test
    void crashedServer_cancelsAllWork() {
        try (TestServer own = TestServer.own(18, Map.of())) {
            residue.watch(own);
            DefaultAdvisoryLocks locks = clients.open(own, builder -> builder.maxConnections(20));
            List<Idle> all = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                all.add(new Idle(locks.exclusive(LockKey.of(12_100 + i))));
            }
            all.forEach(Idle::hold);
            long start = System.nanoTime();
            own.crash();
            Duration longest = all.stream()
                    .map(idle -> idle.lostAfter(start))
                    .max(Duration::compareTo)
                    .orElseThrow();
            FIGURES.info("crashed server, the last of 20 told after {}", longest);
            assertThat(longest).isLessThan(AT_ONCE);
            own.start();
            assertThat(locks.withAdvisoryLock(A, Mono.just(1)).block(PATIENCE)).isEqualTo(1);
            residue.check();
            locks.close().block(PATIENCE);
        }
    }

    @Test
    void lossIsToldToTheListenerOnce_andByLost_toWhoeverListens() {
        Queue<String> told = new ConcurrentLinkedQueue<>();
        DefaultAdvisoryLocks locks = clients.open(
                server,
                builder -> builder.listener(new LockListener() {
                    @Override
                    public void lost(List<LockKey> keys, LockMode mode, Duration age, String why) {
                        told.add(keys + " " + mode + ": " + why);
                    }
                }));
        HeldLock hold = acquire(locks.exclusive(A));
        execute(hold, "select 1").block(PATIENCE);
        HeldLock nested = java.util.Objects.requireNonNull(
                hold.guard(locks.exclusive(LockKey.of(12_002)).acquire()).block(PATIENCE));
        CompletableFuture<Void> lost = hold.lost().toFuture();
        CompletableFuture<Void> nestedLost = nested.lost().toFuture();
        CompletableFuture<Integer> guarded = hold.guard(Mono.<Integer>never()).toFuture();
        server.execute("select pg_terminate_backend(" + hold.backendPid() + ")");
        for (CompletableFuture<?> one : List.of(lost, nestedLost, guarded)) {
            assertThat(one).failsWithin(PATIENCE).withThrowableThat().withCauseInstanceOf(LockLostException.class);
        }
        assertThatThrownBy(() -> hold.lost().block(PATIENCE)).isInstanceOf(LockLostException.class);
        assertThatThrownBy(() -> hold.commit().block(PATIENCE)).isInstanceOf(LockLostException.class);
        release(nested);
        release(hold);
        Await.until("the listener", () -> !told.isEmpty());
        assertThat(told).hasSize(1);
        assertThat(told.peek()).contains(A.toString(), "EXCLUSIVE", "closed");

        HeldLock released = acquire(locks.exclusive(A));
        CompletableFuture<Void> notLost = released.lost().toFuture();
        assertThat(notLost).isNotDone();
        release(released);
        assertThat(notLost).succeedsWithin(PATIENCE);
        HeldLock committed = acquire(locks.exclusive(A));
        committed.commit().block(PATIENCE);
        committed.lost().block(PATIENCE);
    }

    @Test
    void backendThatDiesUnderAStatement_isALoss_notTheStatementsError() {
        DefaultAdvisoryLocks locks = clients.open(server);
        for (int i = 0; i < 20; i++) {
            Sinks.One<Integer> pid = Sinks.one();
            CompletableFuture<Void> call = locks.exclusive(A)
                    .guard((HeldLock hold) -> {
                        pid.tryEmitValue(hold.backendPid());
                        return execute(hold, "select pg_sleep(30)");
                    })
                    .toFuture();
            int backend = java.util.Objects.requireNonNull(pid.asMono().block(PATIENCE));
            Await.until(
                    "the statement",
                    () -> server.count("select count(*) from pg_stat_activity where pid = " + backend
                                    + " and query like '%pg_sleep%' and state = 'active'")
                            == 1);
            server.execute("select pg_terminate_backend(" + backend + ")");
            assertThat(call)
                    .failsWithin(PATIENCE)
                    .withThrowableThat()
                    .withCauseInstanceOf(LockLostException.class)
                    .withStackTraceContaining("57P01");
        }
    }

    @Test
    void timeoutsOfTheRole_doNotEndAHold() {
        server.execute(
                "drop role if exists impatient",
                "create role impatient login",
                "alter role impatient set idle_in_transaction_session_timeout = '1s'",
                "alter role impatient set transaction_timeout = '1s'",
                "alter role impatient set idle_session_timeout = '1s'");
        DefaultAdvisoryLocks locks = clients.open(
                new io.r2dbc.postgresql.PostgresqlConnectionFactory(
                        server.configuration().username("impatient").build()),
                builder -> {});
        assertThat(locks.withAdvisoryLock(A, Mono.delay(Duration.ofSeconds(5))).block(PATIENCE))
                .isZero();
    }
}
