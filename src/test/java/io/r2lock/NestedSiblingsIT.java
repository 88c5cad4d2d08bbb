package io.r2lock;

import static io.r2lock.NestingClients.PATIENCE;
import static io.r2lock.NestingClients.get;
import static io.r2lock.NestingClients.isHeld;
import static io.r2lock.NestingClients.waiting;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** Requests side by side inside one hold: their turns, their cycles, and their end with the hold around them. */
class NestedSiblingsIT {

    private static final LockKey A = LockKey.of(111);
    private static final LockKey B = LockKey.of(112);
    private static final LockKey C = LockKey.of(113);
    private static final LockKey D = LockKey.of(114);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    private final AtomicInteger inside = new AtomicInteger();
    private final AtomicInteger most = new AtomicInteger();

    /** Work that notes how much of its kind runs at once. */
    private Mono<Integer> counted() {
        return Mono.defer(() -> {
            most.accumulateAndGet(inside.incrementAndGet(), Math::max);
            return Mono.delay(Duration.ofMillis(1)).map(tick -> {
                inside.decrementAndGet();
                return 1;
            });
        });
    }

    @ParameterizedTest
    @ValueSource(longs = {111, 112})
    void siblings_onOneKey_takeTurns(long key) {
        DefaultAdvisoryLocks locks = clients.on(server, residue);
        long done = get(locks.exclusive(A)
                .guard(Flux.range(0, 100)
                        .flatMap(i -> locks.withAdvisoryLock(LockKey.of(key), counted()), 100)
                        .count()));
        assertThat(done).isEqualTo(100);
        assertThat(most).hasValue(1);
    }

    @Test
    void manySiblings_whoseWorkIsDoneAtOnce_doNotOverflowTheStack() {
        DefaultAdvisoryLocks locks = clients.on(server, residue);
        Sinks.Empty<Void> start = Sinks.empty();
        Sinks.Empty<Void> queued = Sinks.empty();
        CompletableFuture<Long> call = locks.exclusive(A)
                .guard(Flux.range(0, 10_000)
                        .doOnComplete(queued::tryEmitEmpty)
                        .flatMap(
                                i -> locks.withAdvisoryLock(
                                        A, i == 0 ? start.asMono().thenReturn(i) : Mono.just(i)),
                                10_000)
                        .count())
                .toFuture();
        queued.asMono().block(PATIENCE);
        start.tryEmitEmpty().orThrow();
        assertThat(call.orTimeout(10, TimeUnit.SECONDS).join()).isEqualTo(10_000);
    }

    @Test
    void siblings_onDifferentKeys_runSideBySide() {
        DefaultAdvisoryLocks locks = clients.on(server, residue);
        Sinks.Empty<Void> bothIn = Sinks.empty();
        Mono<Integer> meeting = Mono.defer(() -> {
            if (inside.incrementAndGet() == 2) {
                bothIn.tryEmitEmpty().orThrow();
            }
            return bothIn.asMono().thenReturn(1);
        });
        assertThat(get(locks.exclusive(A)
                        .guard(Flux.just(B, C)
                                .flatMap(key -> locks.withAdvisoryLock(key, meeting))
                                .count())))
                .isEqualTo(2);
    }

    @ParameterizedTest
    @ValueSource(longs = {111, 114})
    void siblings_atDifferentDepths_excludeEachOther(long number) {
        DefaultAdvisoryLocks locks = clients.on(server, residue);
        LockKey key = LockKey.of(number);
        long done = get(locks.exclusive(A)
                .guard(Flux.range(0, 40)
                        .flatMap(
                                i -> switch (i % 3) {
                                    case 0 -> locks.withAdvisoryLock(key, counted());
                                    case 1 -> locks.withAdvisoryLock(B, locks.withAdvisoryLock(key, counted()));
                                    default ->
                                        locks.withAdvisoryLock(
                                                LockKey.of(1000 + i),
                                                locks.withAdvisoryLock(C, locks.withAdvisoryLock(key, counted())));
                                },
                                40)
                        .count()));
        assertThat(done).isEqualTo(40);
        assertThat(most).hasValue(1);
    }

    @Test
    void sharedSiblings_runSideBySide_andExclusiveOnesAlone() {
        DefaultAdvisoryLocks locks = clients.on(server, residue);
        AtomicInteger writers = new AtomicInteger();
        Mono<Boolean> writer = Mono.defer(() -> {
            boolean alone = writers.incrementAndGet() == 1 && inside.get() == 0;
            return Mono.delay(Duration.ofMillis(1)).map(tick -> {
                writers.decrementAndGet();
                return alone;
            });
        });
        Mono<Boolean> reader = Mono.defer(() -> {
            boolean noWriter = writers.get() == 0;
            return counted().map(one -> noWriter);
        });
        List<Boolean> good = get(locks.exclusive(A)
                .guard(Flux.range(0, 60)
                        .flatMap(i -> i % 10 == 0
                                ? locks.exclusive(A).guard(writer)
                                : locks.shared(A).guard(reader))
                        .collectList()));
        assertThat(good).hasSize(60).containsOnly(true);
        assertThat(most.get()).isGreaterThan(1);
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void chainsThatNestInOppositeOrder_oneIsRefused_theOtherCompletes(boolean twoClients) {
        DefaultAdvisoryLocks first = clients.on(server, residue);
        DefaultAdvisoryLocks second = twoClients ? clients.on(server, residue) : first;
        Sinks.Empty<Void> both = Sinks.empty();
        Mono<Void> meet = Mono.defer(() -> {
            if (inside.incrementAndGet() == 2) {
                both.tryEmitEmpty().orThrow();
            }
            return both.asMono();
        });
        long start = System.nanoTime();
        List<String> outcomes = get(Flux.merge(
                        outcome(first.withAdvisoryLock(A, meet.then(first.withAdvisoryLock(B, Mono.just("done"))))),
                        outcome(second.withAdvisoryLock(B, meet.then(second.withAdvisoryLock(A, Mono.just("done"))))))
                .collectList());
        assertThat(outcomes).containsExactlyInAnyOrder("done", "LockDeadlockException");
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(Duration.ofSeconds(2));
    }

    private static Mono<String> outcome(Mono<String> call) {
        return call.onErrorResume(
                AdvisoryLockException.class, error -> Mono.just(error.getClass().getSimpleName()));
    }

    @Test
    void siblingsThatNestInOppositeOrder_oneIsRefusedAtOnce_theOtherCompletes() {
        DefaultAdvisoryLocks locks = clients.on(server, residue);
        Sinks.Empty<Void> both = Sinks.empty();
        Mono<Void> meet = Mono.defer(() -> {
            if (inside.incrementAndGet() == 2) {
                both.tryEmitEmpty().orThrow();
            }
            return both.asMono();
        });
        List<String> outcomes = get(locks.withAdvisoryLock(
                A,
                Flux.merge(
                                outcome(locks.withAdvisoryLock(
                                        B, meet.then(locks.withAdvisoryLock(D, Mono.just("done"))))),
                                outcome(locks.withAdvisoryLock(
                                        D, meet.then(locks.withAdvisoryLock(B, Mono.just("done"))))))
                        .collectList()));
        assertThat(outcomes).containsExactlyInAnyOrder("done", "LockDeadlockException");
    }

    @Test
    void longerCycles_areFound_andLeaveTheOthersAlone() {
        DefaultAdvisoryLocks locks = clients.on(server, residue);
        int chains = 5;
        Sinks.Empty<Void> all = Sinks.empty();
        Mono<Void> meet = Mono.defer(() -> {
            if (inside.incrementAndGet() == chains) {
                all.tryEmitEmpty().orThrow();
            }
            return all.asMono();
        });
        // each holds its own key, beneath another one, and asks for that of the next; the last closes the circle
        List<String> outcomes = get(locks.withAdvisoryLock(
                A,
                Flux.range(0, chains)
                        .flatMap(i -> outcome(locks.withAdvisoryLock(
                                LockKey.of(1000 + i),
                                meet.then(locks.withAdvisoryLock(
                                        LockKey.of(2000 + i),
                                        locks.exclusive(LockKey.of(1000 + (i + 1) % chains), LockKey.of(3000 + i))
                                                .guard(Mono.just("done")))))))
                        .collectList()));
        assertThat(outcomes).hasSize(chains).containsOnlyOnce("LockDeadlockException");
        assertThat(outcomes).filteredOn("done"::equals).hasSize(chains - 1);
    }

    @Test
    void sharedTurnsInOppositeOrder_areNoCycle() {
        DefaultAdvisoryLocks locks = clients.on(server, residue);
        Sinks.Empty<Void> both = Sinks.empty();
        Mono<Void> meet = Mono.defer(() -> {
            if (inside.incrementAndGet() == 2) {
                both.tryEmitEmpty().orThrow();
            }
            return both.asMono();
        });
        List<String> outcomes = get(locks.withAdvisoryLock(
                A,
                Flux.merge(
                                outcome(locks.shared(B)
                                        .guard(meet.then(locks.shared(D).guard(Mono.just("done"))))),
                                outcome(locks.shared(D)
                                        .guard(meet.then(locks.shared(B).guard(Mono.just("done"))))))
                        .collectList()));
        assertThat(outcomes).containsExactly("done", "done");
    }

    private enum Child {
        QUEUED,
        WAITING_ON_SERVER,
        RUNNING
    }

    @ParameterizedTest
    @EnumSource
    void endOfTheOuterHold_endsWhatRunsInside(Child child) {
        DefaultAdvisoryLocks locks = clients.on(server, residue);
        try (Sessions sessions = new Sessions(server)) {
            PostgresqlConnection elsewhere = sessions.open();
            Sessions.run(elsewhere, "select pg_advisory_lock(112)");
            Sinks.Empty<Void> started = Sinks.empty();
            AtomicInteger cancelled = new AtomicInteger();
            Mono<Integer> work = Mono.<Integer>never()
                    .doOnSubscribe(subscription -> started.tryEmitEmpty())
                    .doOnCancel(cancelled::incrementAndGet);
            CompletableFuture<Integer> inner = new CompletableFuture<>();
            HeldLock outer = get(locks.exclusive(A).acquire());
            HeldLock turn = get(outer.guard(locks.exclusive(C).acquire()));
            outer.guard(Mono.deferContextual(context -> {
                        LockKey key =
                                switch (child) {
                                    case QUEUED -> C;
                                    case WAITING_ON_SERVER -> B;
                                    case RUNNING -> A;
                                };
                        locks.exclusive(key)
                                .guard(work)
                                .contextWrite(context)
                                .subscribe(inner::complete, inner::completeExceptionally);
                        return Mono.just(1);
                    }))
                    .block(PATIENCE);
            switch (child) {
                case QUEUED -> assertThat(inner).isNotDone();
                case WAITING_ON_SERVER -> Await.until("waits", () -> waiting(server) == 1);
                case RUNNING -> started.asMono().block(PATIENCE);
            }

            NestingClients.end(outer.release());

            assertThatThrownBy(() -> inner.orTimeout(3, TimeUnit.SECONDS).join())
                    .hasCauseInstanceOf(LockLostException.class);
            assertThat(cancelled).hasValue(child == Child.RUNNING ? 1 : 0);
            assertThatThrownBy(() -> turn.commit().block(PATIENCE)).isInstanceOf(LockLostException.class);
            assertThat(isHeld(server, A)).isFalse();
            assertThat(waiting(server)).isZero();
            Sessions.run(elsewhere, "select pg_advisory_unlock_all()");
        }
    }
}
