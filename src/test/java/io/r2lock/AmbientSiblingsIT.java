package io.r2lock;

import static io.r2lock.NestingClients.isHeld;
import static io.r2lock.NestingClients.one;
import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** Requests side by side in one transaction that somebody else owns, which is one backend to PostgreSQL: their turns. */
class AmbientSiblingsIT {

    private static final LockKey A = LockKey.of(146);
    private static final LockKey B = LockKey.of(147);

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    private DefaultAdvisoryLocks locks;

    private final AtomicInteger inside = new AtomicInteger();
    private final AtomicInteger most = new AtomicInteger();

    @BeforeEach
    void prepare() {
        locks = client();
        residue.zero("ambient transactions", locks::ambient);
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    private DefaultAdvisoryLocks client() {
        return clients.on(server, residue, builder -> builder.ambientTransaction(OwnedTransaction.IN_CONTEXT));
    }

    private OwnedTransaction begin() {
        return OwnedTransaction.begin(sessions.open());
    }

    /** Work that notes how much of its kind runs at once. */
    private Mono<Integer> counted() {
        return Mono.defer(() -> {
            most.accumulateAndGet(inside.incrementAndGet(), Math::max);
            return Mono.delay(Duration.ofMillis(1)).map(tick -> inside.decrementAndGet());
        });
    }

    private static String outcome(CompletableFuture<?> call) {
        return call.handle((value, error) ->
                        error == null ? String.valueOf(value) : error.getClass().getSimpleName())
                .orTimeout(20, TimeUnit.SECONDS)
                .join();
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void siblings_onOneKey_takeTurns(boolean insideAHold) {
        OwnedTransaction transaction = begin();
        Mono<Long> siblings = Flux.range(0, 60)
                .flatMap(
                        i -> i % 2 == 0
                                ? locks.withAdvisoryLock(A, counted())
                                : locks.withAdvisoryLock(LockKey.of(1000 + i), locks.withAdvisoryLock(A, counted())),
                        60)
                .count();
        long done = transaction.run(insideAHold ? locks.withAdvisoryLock(B, siblings) : siblings);
        assertThat(done).isEqualTo(60);
        assertThat(most).hasValue(1);
        transaction.commit();
    }

    @Test
    void separateSubscriptionsInOneTransaction_takeTurns() {
        OwnedTransaction transaction = begin();
        Sinks.Empty<Void> mayEnd = Sinks.empty();
        CompletableFuture<Integer> first = transaction
                .around(locks.withAdvisoryLock(A, mayEnd.asMono().thenReturn(1)))
                .toFuture();
        Await.until("held", () -> isHeld(server, A));
        String busy = transaction.run(locks.exclusive(A)
                .noWait()
                .guard(Mono.just("in"))
                .onErrorResume(LockNotAvailableException.class, error -> Mono.just("busy")));
        assertThat(busy).isEqualTo("busy");
        CompletableFuture<Integer> second =
                transaction.around(locks.withAdvisoryLock(A, Mono.just(2))).toFuture();
        assertThat(second).isNotDone();
        mayEnd.tryEmitEmpty().orThrow();
        assertThat(outcome(first)).isEqualTo("1");
        assertThat(outcome(second)).isEqualTo("2");
        transaction.commit();
    }

    @Test
    void siblingsInOppositeOrder_oneIsRefused_theOtherCompletes() {
        OwnedTransaction transaction = begin();
        Mono<Void> meet = meetingOfTwo();
        CompletableFuture<String> one = transaction
                .around(locks.withAdvisoryLock(A, meet.then(locks.withAdvisoryLock(B, Mono.just("done")))))
                .toFuture();
        CompletableFuture<String> two = transaction
                .around(locks.withAdvisoryLock(B, meet.then(locks.withAdvisoryLock(A, Mono.just("done")))))
                .toFuture();
        assertThat(List.of(outcome(one), outcome(two))).containsExactlyInAnyOrder("done", "LockDeadlockException");
        transaction.commit();
    }

    /** Of the two, the one takes turns among those inside the hold, and the other among those in the transaction. */
    @Test
    void siblingsInsideAHold_thatNestItsKeyAndAnother_oneIsRefused_theOtherCompletes() {
        OwnedTransaction transaction = begin();
        Mono<Void> meet = meetingOfTwo();
        Mono<String> again = locks.withAdvisoryLock(A, meet.then(locks.withAdvisoryLock(B, Mono.just("done"))));
        Mono<String> other = locks.withAdvisoryLock(B, meet.then(locks.withAdvisoryLock(A, Mono.just("done"))));
        List<String> outcomes = transaction.run(
                locks.withAdvisoryLock(A, Flux.merge(told(again), told(other)).collectList()));
        assertThat(outcomes).containsExactlyInAnyOrder("done", "LockDeadlockException");
        transaction.commit();
    }

    private static Mono<String> told(Mono<String> call) {
        return call.onErrorResume(error -> Mono.just(error.getClass().getSimpleName()));
    }

    private Mono<Void> meetingOfTwo() {
        Sinks.Empty<Void> both = Sinks.empty();
        return Mono.defer(() -> {
            if (inside.incrementAndGet() == 2) {
                both.tryEmitEmpty().orThrow();
            }
            return both.asMono();
        });
    }
}
