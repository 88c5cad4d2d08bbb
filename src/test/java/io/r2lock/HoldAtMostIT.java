package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.execute;
import static io.r2lock.TestClients.release;
import static io.r2lock.TestClients.since;
import static io.r2lock.TestClients.warm;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.test.StepVerifier;

/** A hold with a bound: its work ends with it, everywhere, and what was in time counts. */
@Timeout(60)
class HoldAtMostIT {

    private static final Logger LOG = LoggerFactory.getLogger(HoldAtMostIT.class);
    private static final LockKey A = LockKey.of(10_401);
    private static final LockKey B = LockKey.of(10_402);
    private static final Duration SHORT = Duration.ofMillis(200);
    private static final Duration AT_ONCE = Duration.ofSeconds(2);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private DefaultAdvisoryLocks locks;

    @BeforeEach
    void prepare() {
        server.execute(
                "drop table if exists held_at_most, slow_to_commit",
                "create table held_at_most (id int)",
                "create table slow_to_commit (id int)",
                "create or replace function slow_commit() returns trigger language plpgsql as"
                        + " $$begin perform pg_sleep(0.7); return null; end$$",
                "create constraint trigger slow_commit after insert on slow_to_commit deferrable initially deferred"
                        + " for each row execute function slow_commit()");
        locks = clients.open(server);
        warm(locks, 2);
    }

    private static Mono<Void> insert(HeldLock hold, int id) {
        return execute(hold, "insert into held_at_most values (" + id + ")");
    }

    private Set<Object> rows() {
        Set<Object> rows = new HashSet<>();
        server.query("select id from held_at_most")
                .forEach(row -> assertThat(rows.add(Objects.requireNonNull(row.get("id"))))
                        .isTrue());
        return rows;
    }

    private long sleeping() {
        return server.count("select count(*) from pg_stat_activity where query like '%pg_sleep(30)%'"
                + " and state = 'active' and pid <> pg_backend_pid()");
    }

    private void assertFree() {
        assertThat(server.query("select pg_try_advisory_xact_lock(10401) as free"))
                .singleElement()
                .satisfies(row -> assertThat(row.get("free")).isEqualTo(true));
    }

    @Test
    void workThatLastsLonger_isCancelled_rolledBack_andTold() {
        AtomicInteger cancels = new AtomicInteger();
        long start = System.nanoTime();
        assertThatThrownBy(() -> locks.exclusive(A)
                        .holdAtMost(SHORT)
                        .guard((HeldLock hold) ->
                                insert(hold, 1).then(Mono.never().doOnCancel(cancels::incrementAndGet)))
                        .block(PATIENCE))
                .isInstanceOf(LockHoldExpiredException.class)
                .hasMessageContaining("holdAtMost");
        assertFree();
        assertThat(since(start)).isBetween(SHORT, AT_ONCE);
        assertThat(cancels).hasValue(1);
        assertThat(rows()).isEmpty();
    }

    @Test
    void sqlThatRunsAtThatInstant_isCancelledOnTheServer() {
        for (int round = 0; round < 3; round++) {
            long start = System.nanoTime();
            assertThatThrownBy(() -> locks.exclusive(A)
                            .holdAtMost(SHORT)
                            .guard((HeldLock hold) -> insert(hold, 1)
                                    .then(execute(hold, "select pg_sleep(30)"))
                                    .thenReturn("value"))
                            .block(PATIENCE))
                    .isInstanceOf(LockHoldExpiredException.class);
            assertFree();
            assertThat(sleeping()).isZero();
            assertThat(since(start)).isBetween(SHORT, AT_ONCE);
        }
        assertThat(rows()).isEmpty();
    }

    @Test
    void flux_givesItsItems_thenTheError() {
        StepVerifier.create(locks.exclusive(A)
                        .holdAtMost(SHORT)
                        .guardMany((HeldLock hold) ->
                                insert(hold, 1).thenMany(Flux.concat(Flux.just("a", "b"), Flux.never()))))
                .expectNext("a", "b")
                .expectError(LockHoldExpiredException.class)
                .verify(AT_ONCE);
        assertThat(rows()).isEmpty();
    }

    @Test
    void fluxThatEmitsAllTheTime_endsOnce() {
        StepVerifier.create(locks.exclusive(A)
                        .holdAtMost(Duration.ofMillis(50))
                        .guard(Flux.interval(Duration.ofNanos(20_000)).onBackpressureDrop()))
                .thenConsumeWhile(item -> true)
                .expectError(LockHoldExpiredException.class)
                .verify(AT_ONCE);
    }

    @Test
    void acquire_tellsByLost_andIsReleasedAlready() {
        HeldLock hold = acquire(locks.exclusive(A).holdAtMost(SHORT));
        insert(hold, 1).block(PATIENCE);
        for (int i = 0; i < 2; i++) {
            assertThatThrownBy(() -> hold.lost().block(AT_ONCE)).isInstanceOf(LockHoldExpiredException.class);
        }
        release(hold);
        release(hold);
        assertFree();
        assertThatThrownBy(() -> hold.commit().block(PATIENCE)).isInstanceOf(LockHoldExpiredException.class);
        assertThatThrownBy(() -> insert(hold, 2).block(PATIENCE)).isInstanceOf(LockLostException.class);
        assertThat(rows()).isEmpty();
    }

    @Test
    void commitThatHasBegun_isNotCutShort() {
        assertThat(locks.exclusive(A)
                        .holdAtMost(SHORT)
                        .guard((HeldLock hold) -> execute(hold, "insert into slow_to_commit values (1)")
                                .thenReturn("value"))
                        .block(PATIENCE))
                .isEqualTo("value");
        HeldLock hold = acquire(locks.exclusive(A).holdAtMost(SHORT));
        execute(hold, "insert into slow_to_commit values (2)").block(PATIENCE);
        hold.commit().block(PATIENCE);
        hold.lost().block(PATIENCE);
        assertThat(server.count("select count(*) from slow_to_commit")).isEqualTo(2);
    }

    @Test
    void nestedHold_endsItsOwnWorkOnly() {
        AtomicInteger cancels = new AtomicInteger();
        String told = locks.exclusive(A)
                .guard((HeldLock outer) -> insert(outer, 1)
                        .then(locks.exclusive(B)
                                .holdAtMost(SHORT)
                                .guard((HeldLock inner) -> insert(inner, 2)
                                        .then(Mono.<String>never().doOnCancel(cancels::incrementAndGet)))
                                .onErrorResume(LockHoldExpiredException.class, expired -> Mono.just("expired")))
                        .delayUntil(expired -> insert(outer, 3))
                        // its turn is over
                        .delayUntil(expired -> locks.exclusive(B).noWait().guard(Mono.just("again"))))
                .block(PATIENCE);
        assertThat(told).isEqualTo("expired");
        assertThat(cancels).hasValue(1);
        assertThat(rows()).as("what it wrote belongs to the outer hold").containsExactlyInAnyOrder(1, 2, 3);
    }

    @Test
    void sqlOfANestedHold_isLeftToEnd_becauseItsErrorWouldDoomTheOuterOne() {
        long start = System.nanoTime();
        Duration told = locks.exclusive(A)
                .guard((HeldLock outer) -> locks.exclusive(B)
                        .holdAtMost(SHORT)
                        .guard((HeldLock inner) ->
                                execute(inner, "select pg_sleep(1)").thenReturn(Duration.ZERO))
                        .onErrorResume(LockHoldExpiredException.class, expired -> Mono.just(since(start)))
                        .delayUntil(expired -> insert(outer, 1)))
                .block(PATIENCE);
        assertThat(told).isBetween(SHORT, Duration.ofMillis(900));
        assertThat(since(start)).isGreaterThan(Duration.ofSeconds(1));
        assertThat(rows()).containsExactly(1);
    }

    @Test
    void outerHold_thatExpires_endsNestedWork() {
        AtomicInteger cancels = new AtomicInteger();
        assertThatThrownBy(() -> locks.exclusive(A)
                        .holdAtMost(SHORT)
                        .guard(locks.exclusive(B).guard(Mono.never().doOnCancel(cancels::incrementAndGet)))
                        .block(PATIENCE))
                .isInstanceOf(LockHoldExpiredException.class);
        assertThat(cancels).hasValue(1);
        assertFree();
    }

    @Test
    void waiting_doesNotCount() {
        HeldLock first = acquire(locks.exclusive(A));
        Mono<String> second = locks.exclusive(A)
                .holdAtMost(SHORT)
                .guard((HeldLock hold) -> insert(hold, 1).thenReturn("value"))
                .cache();
        second.subscribe();
        Mono.delay(SHORT.multipliedBy(2)).block(PATIENCE);
        release(first);
        assertThat(second.block(PATIENCE)).isEqualTo("value");
    }

    @Test
    void expiryAgainstCompletion_isOneOfThem() {
        int rounds = 2_000;
        Duration most = Duration.ofMillis(4);
        Set<Object> values = ConcurrentHashMap.newKeySet();
        AtomicInteger expired = new AtomicInteger();
        warm(locks, 10);
        List<Integer> all = Objects.requireNonNull(Flux.range(0, rounds)
                .flatMap(
                        i -> locks.exclusive(LockKey.of(20_000 + i))
                                .holdAtMost(most)
                                .guard((HeldLock hold) -> insert(hold, i)
                                        .then(Mono.delay(Duration.ofNanos(
                                                ThreadLocalRandom.current().nextLong(most.toNanos()))))
                                        .thenReturn(i))
                                .doOnNext(values::add)
                                .onErrorResume(LockHoldExpiredException.class, error -> {
                                    expired.incrementAndGet();
                                    return Mono.just(i);
                                }),
                        10)
                .collectList()
                .block(Duration.ofSeconds(40)));
        assertThat(all).hasSize(rounds);
        Await.until("all ended", () -> locks.connections().acquired() == 0);
        LOG.info("{} in time, {} expired", values.size(), expired);
        assertThat(rows()).isEqualTo(values);
        assertThat(values.size() + expired.get()).isEqualTo(rounds);
        assertThat(values.size()).isBetween(rounds / 50, rounds * 49 / 50);
    }

    @Test
    void noTimerIsLeft_howeverTheHoldEnds() {
        TimerCount clock = new TimerCount(Duration.ofHours(1));
        DefaultAdvisoryLocks timed = clients.open(server, builder -> builder.clock(clock));
        LockRequest request = timed.exclusive(A).holdAtMost(Duration.ofHours(1));
        request.guard(Mono.just(1)).block(PATIENCE);
        request.guard(Mono.error(new IllegalStateException("work")))
                .onErrorComplete()
                .block(PATIENCE);
        request.guard(Mono.never()).timeout(SHORT, Mono.empty()).block(PATIENCE);
        request.guard(request.guard(Mono.just(1))).block(PATIENCE);
        release(acquire(request));
        acquire(request).commit().block(PATIENCE);
        Await.until("all ended", () -> timed.connections().acquired() == 0);
        assertThat(clock.started()).isEqualTo(7);
        assertThat(clock.left()).isZero();
    }
}
