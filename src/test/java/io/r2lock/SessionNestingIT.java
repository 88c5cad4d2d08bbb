package io.r2lock;

import static io.r2lock.NestingClients.PATIENCE;
import static io.r2lock.NestingClients.get;
import static io.r2lock.NestingClients.isHeld;
import static io.r2lock.NestingClients.one;
import static io.r2lock.NestingClients.run;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

/** A request inside a hold where at least one of the two is in session scope: what it joins, and what it refuses. */
class SessionNestingIT {

    private static final LockKey A = LockKey.of(131);
    private static final LockKey B = LockKey.of(132);
    private static final LockKey C = LockKey.of(133);
    private static final Duration BOUND = Duration.ofSeconds(15);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    private DefaultAdvisoryLocks locks;

    /** A scope, for one of two requests. */
    enum In {
        SESSION,
        TRANSACTION;

        LockRequest of(LockRequest request) {
            return this == SESSION ? request.inSession() : request.inTransaction();
        }
    }

    @BeforeEach
    void prepare() {
        server.execute("create table if not exists nesting (id int)", "truncate nesting");
        locks = clients.on(server, residue);
    }

    private static <T> Mono<T> seen(Supplier<T> look) {
        return Mono.fromSupplier(look).subscribeOn(Schedulers.boundedElastic());
    }

    private Mono<Boolean> held(LockKey key) {
        return seen(() -> isHeld(server, key));
    }

    private long written() {
        return server.count("select count(*) from nesting");
    }

    private static Mono<String> transaction(HeldLock hold) {
        return one(hold.connection(), "select pg_backend_pid() || '/' || pg_current_xact_id()");
    }

    private long locksOf(LockKey key) {
        return server.count("select count(*) from pg_locks where locktype = 'advisory' and objid = " + key.value());
    }

    @ParameterizedTest
    @CsvSource({"SESSION,SESSION", "SESSION,TRANSACTION", "TRANSACTION,SESSION"})
    void sameKey_isReentrant(In outside, In inside) {
        List<Object> seen = get(outside.of(locks.exclusive(A))
                .guard(outer -> inside.of(locks.exclusive(A).noWait())
                        .guard(inner -> inside.of(locks.shared(A)) // and once more, a weaker one
                                .guard(innermost -> seen(() -> List.<Object>of(
                                        outer.backendPid(),
                                        inner.backendPid(),
                                        innermost.backendPid(),
                                        locksOf(A),
                                        locks.live()))))
                        .delayUntil(done ->
                                held(A).doOnNext(held -> assertThat(held).isTrue()))));
        assertThat(seen.get(1)).isEqualTo(seen.get(0));
        assertThat(seen.get(2)).isEqualTo(seen.get(0));
        assertThat(seen.subList(3, 5)).containsExactly(1L, 3);
        assertThat(isHeld(server, A)).isFalse();
    }

    @ParameterizedTest
    @EnumSource
    void reentrantHold_inASession_hasNoConnection(In inside) {
        assertThatThrownBy(() -> locks.exclusive(A)
                        .inSession()
                        .guard(outer -> inside.of(locks.exclusive(A)).guard(inner -> Mono.just(inner.connection())))
                        .block(PATIENCE))
                .isInstanceOf(UnsupportedOperationException.class);
    }

    @ParameterizedTest
    @CsvSource({"SESSION,SESSION", "SESSION,TRANSACTION", "TRANSACTION,SESSION"})
    void siblings_onOneKey_takeTurns(In outside, In inside) {
        AtomicInteger now = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        Mono<Integer> counted = Mono.defer(() -> {
            most.accumulateAndGet(now.incrementAndGet(), Math::max);
            return Mono.delay(Duration.ofMillis(1)).map(tick -> now.decrementAndGet());
        });
        long done = get(outside.of(locks.exclusive(A))
                .guard(Flux.range(0, 60)
                        .flatMap(
                                i -> inside.of(
                                                i % 2 == 0
                                                        ? locks.exclusive(A)
                                                        : locks.exclusive(A).waitAtMost(BOUND))
                                        .guard(counted),
                                60)
                        .count()));
        assertThat(done).isEqualTo(60);
        assertThat(most).hasValue(1);
    }

    @ParameterizedTest
    @EnumSource
    void siblings_onOtherKeys_takeTurnsToo(In outside) {
        AtomicInteger now = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        Mono<Integer> counted = Mono.defer(() -> {
            most.accumulateAndGet(now.incrementAndGet(), Math::max);
            return Mono.delay(Duration.ofMillis(1)).map(tick -> now.decrementAndGet());
        });
        // they hold something, so they wait for each other on the server, or by polling
        long done = get(outside.of(locks.exclusive(A))
                .guard(Flux.range(0, 6)
                        .flatMap(
                                i -> locks.exclusive(B)
                                        .inSession()
                                        .waitAtMost(BOUND)
                                        .guard(counted),
                                6)
                        .count()));
        assertThat(done).isEqualTo(6);
        assertThat(most).hasValue(1);
    }

    @ParameterizedTest
    @EnumSource
    void otherKey_inSession_withoutABound_isRefused_andTheHoldGoesOn(In outside) {
        for (LockRequest unbounded : List.of(
                locks.exclusive(B).inSession(),
                locks.exclusive(B).inSession().waitForever(),
                locks.exclusive(B).inSession().polling(),
                locks.exclusive(B).inSession().requireNew())) {
            Mono<String> inner = unbounded.guard(Mono.just("in"));
            String told = get(outside.of(locks.exclusive(A))
                    .guard(inner.onErrorResume(
                                    IllegalArgumentException.class,
                                    error -> Mono.just(String.valueOf(error.getMessage())))
                            .delayUntil(error ->
                                    held(A).doOnNext(held -> assertThat(held).isTrue()))));
            assertThat(told)
                    .startsWith("wait must be bounded")
                    .contains(B.toString(), "for ever", "waitAtMost or noWait");
            // outside a hold the same request waits for ever, as it should
            assertThat(get(inner)).isEqualTo("in");
        }
        DefaultAdvisoryLocks bounded = clients.on(server, residue, builder -> builder.defaultWait(BOUND));
        assertThat(get(outside.of(bounded.exclusive(A))
                        .guard(bounded.exclusive(B).inSession().guard(Mono.just(1)))))
                .isEqualTo(1);
    }

    @ParameterizedTest
    @EnumSource
    void otherKey_inSession_withABound_isAHoldOfItsOwn(In outside) {
        for (LockRequest inside : List.of(
                locks.exclusive(B).inSession().waitAtMost(BOUND),
                locks.exclusive(B).inSession().waitAtMost(BOUND).polling(),
                locks.exclusive(B, C).inSession().noWait(),
                locks.shared(B).inSession().skipIfBusy(),
                locks.shared(B).inSession().noWait().requireNew())) {
            List<Boolean> held = get(outside.of(locks.exclusive(A))
                    .guard(outer -> inside.guard((HeldLock inner) -> held(B))
                            .zipWhen(during -> held(B))
                            .flatMap(both -> held(A).map(a -> List.of(both.getT1(), both.getT2(), a)))));
            assertThat(held)
                    .as("B during, B after the inner hold, A: %s", inside)
                    .containsExactly(true, false, true);
        }
    }

    @Test
    void otherKey_inTransaction_insideASession_getsATransactionOfItsOwn() {
        get(locks.exclusive(A)
                .inSession()
                .guard(outer -> locks.exclusive(B)
                        .waitAtMost(PATIENCE)
                        .guard(inner -> run(inner.connection(), "insert into nesting values (1)")
                                .thenReturn(inner.backendPid()))
                        .doOnNext(pid -> assertThat(pid).isNotEqualTo(outer.backendPid()))
                        .then(Mono.zip(held(A), held(B), seen(this::written)))
                        .doOnNext(state -> assertThat(state.toList()).containsExactly(true, false, 1L))));
    }

    @Test
    void otherKey_inTransaction_insideASessionInsideATransaction_joinsThat() {
        Mono<String> failing = locks.exclusive(A)
                .guard(outer -> transaction(outer)
                        .flatMap(first -> locks.exclusive(B)
                                .inSession()
                                .noWait()
                                .guard(middle -> locks.exclusive(C)
                                        .waitAtMost(PATIENCE)
                                        .guard(inner -> run(inner.connection(), "insert into nesting values (1)")
                                                .then(transaction(inner))
                                                .doOnNext(second ->
                                                        assertThat(second).isEqualTo(first))
                                                .doOnNext(second -> assertThat(inner.backendPid())
                                                        .isEqualTo(outer.backendPid())
                                                        .isNotEqualTo(middle.backendPid())))))
                        .then(Mono.zip(held(A), held(B), held(C), seen(this::written)))
                        .doOnNext(state -> assertThat(state.toList()).containsExactly(true, false, true, 0L))
                        .then(Mono.error(new IllegalArgumentException("outer fails"))));
        assertThatThrownBy(() -> failing.block(PATIENCE)).hasMessage("outer fails");
        assertThat(written()).isZero();
        assertThat(isHeld(server, C)).isFalse();
    }

    @Test
    void sameKey_throughAHoldBetween_isReentrant_andTellsTheBackendThatHoldsIt() {
        get(locks.exclusive(A)
                .guard(outer -> locks.exclusive(B)
                        .inSession()
                        .noWait()
                        .guard(middle -> locks.exclusive(A)
                                .inSession()
                                .guard(again -> Mono.fromRunnable(
                                        () -> assertThat(again.backendPid()).isEqualTo(outer.backendPid())))
                                .then(locks.exclusive(B)
                                        .guard(again -> Mono.fromRunnable(() ->
                                                assertThat(again.backendPid()).isEqualTo(middle.backendPid()))))))
                .thenReturn(1));
    }

    @ParameterizedTest
    @CsvSource({"SESSION,SESSION", "SESSION,TRANSACTION", "TRANSACTION,SESSION"})
    void keysThatAreHeld_andOthers_inOneRequest_areRefused(In outside, In inside) {
        for (LockRequest mixed : List.of(
                inside.of(locks.exclusive(A, B)).noWait(),
                inside.of(locks.shared(B, A)).waitAtMost(BOUND))) {
            assertThatThrownBy(() -> outside.of(locks.exclusive(A))
                            .guard(mixed.guard(Mono.just(1)))
                            .block(PATIENCE))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("some of the keys and not the others")
                    .hasMessageContaining(A.toString())
                    .hasMessageContaining(B.toString());
        }
        assertThat(locks.waiting()).isZero();
        assertThat(get(outside.of(locks.exclusive(A, B))
                        .guard(inside.of(locks.exclusive(A, B)).guard(Mono.just(1)))))
                .isEqualTo(1);
    }

    @ParameterizedTest
    @CsvSource({"SESSION,SESSION", "SESSION,TRANSACTION", "TRANSACTION,SESSION"})
    void exclusiveInsideShared_isRefused_butNotTheOtherWayRound(In outside, In inside) {
        assertThatThrownBy(() -> outside.of(locks.shared(A))
                        .guard(inside.of(locks.exclusive(A)).guard(Mono.just(1)))
                        .block(PATIENCE))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("holds " + A + " as shared");
        assertThat(get(outside.of(locks.exclusive(A))
                        .guard(inside.of(locks.shared(A)).guard(Mono.just(1)))))
                .isEqualTo(1);
    }

    @ParameterizedTest
    @CsvSource({"SESSION,SESSION", "SESSION,TRANSACTION", "TRANSACTION,SESSION"})
    void requireNew_ofAKeyThatTheChainHolds_isRefused(In outside, In inside) {
        LockRequest again = inside.of(locks.exclusive(A)).waitAtMost(BOUND).requireNew();
        for (Mono<Integer> call : List.of(
                outside.of(locks.exclusive(A)).guard(again.guard(Mono.just(1))),
                outside.of(locks.exclusive(A))
                        .guard(locks.exclusive(B).inSession().noWait().guard(again.guard(Mono.just(1)))),
                outside.of(locks.exclusive(A))
                        .guard(locks.exclusive(B).requireNew().waitAtMost(BOUND).guard(again.guard(Mono.just(1)))))) {
            assertThatThrownBy(() -> call.block(PATIENCE))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("the same chain holds " + A);
        }
    }

    @Test
    void keyOfAnEndedHoldOfTheTransactionAround_isRefusedInASession() {
        // the transaction has it until it ends, though nobody inside holds it any more
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard(locks.exclusive(C)
                                .guard(Mono.just(1))
                                .then(locks.exclusive(C)
                                        .inSession()
                                        .waitAtMost(BOUND)
                                        .guard(Mono.just(1))))
                        .block(PATIENCE))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("the same chain holds " + C);
    }
}
