package io.r2lock;

import static io.r2lock.NestingClients.PATIENCE;
import static io.r2lock.NestingClients.end;
import static io.r2lock.NestingClients.get;
import static io.r2lock.NestingClients.isHeld;
import static io.r2lock.NestingClients.waiting;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.slf4j.event.Level;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;

/** Holds that meet in one chain, at least one of them in session scope: how each ends, is lost, and waits. */
class SessionNestedEndIT {

    private static final LockKey A = LockKey.of(141);
    private static final LockKey B = LockKey.of(142);
    private static final LockKey C = LockKey.of(143);
    private static final Duration BOUND = Duration.ofSeconds(15);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    private DefaultAdvisoryLocks locks;

    /** Work that runs until it is cancelled, and what its call ends with. */
    private static final class Running {
        final CompletableFuture<Boolean> started = new CompletableFuture<>();
        final CompletableFuture<Boolean> cancelled = new CompletableFuture<>();
        final CompletableFuture<Integer> call;

        /** Inside the hold {@code around}, but ended by nobody else than {@code request}'s own hold. */
        Running(HeldLock around, LockRequest request) {
            Mono<Integer> work = Mono.<Integer>never()
                    .doOnSubscribe(subscription -> started.complete(true))
                    .doOnCancel(() -> cancelled.complete(true));
            CompletableFuture<Integer> ended = new CompletableFuture<>();
            around.guard(Mono.deferContextual(context -> {
                        request.guard(work)
                                .contextWrite(context)
                                .subscribe(ended::complete, ended::completeExceptionally);
                        return Mono.just(1);
                    }))
                    .block(PATIENCE);
            call = ended;
            assertThat(started).succeedsWithin(PATIENCE);
        }

        void assertLost() {
            assertThatThrownBy(() -> call.orTimeout(10, TimeUnit.SECONDS).join())
                    .hasCauseInstanceOf(LockLostException.class);
            assertThat(cancelled).succeedsWithin(PATIENCE);
        }
    }

    @BeforeEach
    void prepare() {
        locks = clients.on(server, residue);
    }

    private HeldLock inside(HeldLock around, LockRequest request) {
        return get(around.guard(request.acquire()));
    }

    private static Class<?> endOf(HeldLock hold) {
        try {
            hold.lost().toFuture().orTimeout(10, TimeUnit.SECONDS).join();
            return Void.class;
        } catch (CompletionException e) {
            return Objects.requireNonNull(e.getCause()).getClass();
        }
    }

    @ParameterizedTest
    @CsvSource({"SESSION,SESSION", "SESSION,TRANSACTION", "TRANSACTION,SESSION"})
    void reentrantHold_endsWithTheHoldThatHasTheKey(SessionNestingIT.In outside, SessionNestingIT.In inner) {
        HeldLock outer = get(outside.of(locks.exclusive(A)).acquire());
        HeldLock again = inside(outer, inner.of(locks.shared(A)));
        Running running = new Running(outer, inner.of(locks.shared(A)));

        end(outer.release());
        running.assertLost();
        assertThat(endOf(again)).isEqualTo(LockLostException.class);
        assertThat(isHeld(server, A)).isFalse();
    }

    @ParameterizedTest
    @EnumSource
    void reentrantHold_endsWithTheHoldThatHasTheKey_alsoWithAnotherOneBetween(SessionNestingIT.In outside) {
        HeldLock outer = get(outside.of(locks.exclusive(A)).acquire());
        HeldLock between = inside(outer, locks.exclusive(B).inSession().noWait());
        Running running = new Running(between, outside.of(locks.exclusive(A)));
        HeldLock again = inside(between, locks.shared(B).inSession());

        end(outer.release());
        running.assertLost();
        assertThat(isHeld(server, A)).isFalse();
        assertThat(isHeld(server, B)).as("the one between lives on").isTrue();
        // whoever still runs inside the one between starts afresh, bounded: it holds that one
        assertThat(get(between.guard(
                        locks.exclusive(A).inSession().waitAtMost(BOUND).guard(Mono.just(1)))))
                .isEqualTo(1);
        end(again.commit());
        end(between.commit());
        assertThat(endOf(again)).isEqualTo(Void.class);
        assertThat(endOf(between)).isEqualTo(Void.class);
        assertThat(isHeld(server, B)).isFalse();
    }

    @Test
    void whatAnInnerRequestTookInTheOuterTransaction_endsWithThat() {
        HeldLock outer = get(locks.exclusive(A).acquire());
        HeldLock between = inside(outer, locks.exclusive(B).inSession().noWait());
        Running running = new Running(between, locks.exclusive(C).waitAtMost(BOUND));
        assertThat(isHeld(server, C)).isTrue();

        end(outer.release());
        running.assertLost();
        assertThat(isHeld(server, C)).isFalse();
        assertThat(isHeld(server, B)).isTrue();
        end(between.release());
    }

    @Test
    void endOfTheOuterGuard_cancelsWhatWaitsInside() {
        try (Sessions sessions = new Sessions(server)) {
            TestClients.holdElsewhere(sessions, B.value());
            for (SessionNestingIT.In outside : SessionNestingIT.In.values()) {
                Disposable call = outside.of(locks.exclusive(A))
                        .guard(locks.exclusive(B).inSession().waitAtMost(BOUND).guard(Mono.never()))
                        .subscribe();
                sessions.awaitWaiting(1);
                call.dispose();
                Await.until("both gone", () -> waiting(server) == 0 && !isHeld(server, A));
                Await.until("nothing lives", () -> locks.live() == 0);
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void holdAtMost_endsTheHoldInASession_andNoOther(SessionNestingIT.In outside) {
        HeldLock outer = get(outside.of(locks.exclusive(A)).acquire());
        HeldLock brief = inside(outer, locks.exclusive(B).inSession().noWait().holdAtMost(Duration.ofMillis(20)));
        assertThat(endOf(brief)).isEqualTo(LockHoldExpiredException.class);
        Await.until("given back", () -> !isHeld(server, B));
        assertThat(isHeld(server, A)).isTrue();

        assertThatThrownBy(() -> locks.exclusive(B)
                        .inSession()
                        .holdAtMost(Duration.ofMillis(20))
                        .guard(Mono.never())
                        .block(PATIENCE))
                .isInstanceOf(LockHoldExpiredException.class)
                .hasMessageContaining(B.toString());
        assertThat(isHeld(server, B)).isFalse();

        // a re-entrant one that expires gives up its turn only
        HeldLock again = inside(outer, locks.exclusive(A).inSession().holdAtMost(Duration.ofMillis(20)));
        assertThat(endOf(again)).isEqualTo(LockHoldExpiredException.class);
        assertThat(get(outer.guard(locks.exclusive(A).inSession().guard(Mono.just(1)))))
                .isEqualTo(1);
        assertThat(isHeld(server, A)).isTrue();
        end(outer.commit());
    }

    @Test
    void lossOfASharedConnection_isToldToAllOnIt_andToWhatIsReentrantInThem_andToNobodyElse() {
        residue.allowLog(Level.WARN, "io.r2lock");
        HeldLock transaction = get(locks.exclusive(A).acquire());
        HeldLock nested = inside(transaction, locks.exclusive(B).inSession().noWait());
        HeldLock alone = get(locks.exclusive(C).inSession().acquire());
        HeldLock again = inside(nested, locks.exclusive(B).inSession());
        Running running = new Running(alone, locks.exclusive(C).inTransaction());
        assertThat(alone.backendPid()).isEqualTo(nested.backendPid());

        server.count("select pg_terminate_backend(" + alone.backendPid() + ", 5000)::int");
        running.assertLost();
        assertThat(endOf(alone)).isEqualTo(LockLostException.class);
        assertThat(endOf(nested)).isEqualTo(LockLostException.class);
        assertThat(endOf(again)).isEqualTo(LockLostException.class);
        assertThat(transaction.lost().toFuture()).isNotDone();
        assertThatThrownBy(() -> alone.commit().block(PATIENCE)).isInstanceOf(LockLostException.class);
        end(alone.release());
        assertThat(get(transaction.guard(locks.exclusive(B).inSession().noWait().guard(Mono.just(1)))))
                .as("on a new connection")
                .isEqualTo(1);
        end(transaction.commit());
    }

    @Test
    void lossOfTheTransaction_isToldToWhatIsReentrantInIt_butTheSessionHoldInsideGoesOn() {
        residue.allowLog(Level.WARN, "io.r2lock");
        HeldLock transaction = get(locks.exclusive(A).acquire());
        HeldLock between = inside(transaction, locks.exclusive(B).inSession().noWait());
        Running running = new Running(between, locks.exclusive(A).inSession());

        server.count("select pg_terminate_backend(" + transaction.backendPid() + ", 5000)::int");
        running.assertLost();
        assertThat(endOf(transaction)).isEqualTo(LockLostException.class);
        assertThat(between.lost().toFuture()).isNotDone();
        assertThat(isHeld(server, B)).isTrue();
        end(between.commit());
    }

    /** Whoever holds something does not queue at a gate, but stands behind the one who has passed it, on the server. */
    @ParameterizedTest
    @CsvSource({"SESSION,TRANSACTION", "TRANSACTION,TRANSACTION", "SESSION,SESSION", "TRANSACTION,SESSION"})
    void keyWhoseGateAnotherCallerHolds_isWaitedForOnTheServer(SessionNestingIT.In other, SessionNestingIT.In outside) {
        HeldLock busy = get(other.of(locks.exclusive(B)).acquire());
        CompletableFuture<Integer> call = outside.of(locks.exclusive(A))
                .guard(locks.exclusive(B).inSession().waitAtMost(BOUND).guard(Mono.just(1)))
                .toFuture();
        Await.until("waits on the server", () -> waiting(server) == 1);
        assertThat(call).isNotDone();
        end(busy.release());
        assertThat(call.orTimeout(10, TimeUnit.SECONDS).join()).isEqualTo(1);
        assertThat(isHeld(server, B)).isFalse();
    }

    @ParameterizedTest
    @CsvSource({"SESSION,TRANSACTION", "TRANSACTION,SESSION"})
    void keyWhoseGateAnotherCallerHolds_isWaitedForSoLongOnly(SessionNestingIT.In other, SessionNestingIT.In outside) {
        HeldLock busy = get(other.of(locks.exclusive(B)).acquire());
        for (LockRequest bounded : new LockRequest[] {
            locks.exclusive(B).inSession().waitAtMost(Duration.ofMillis(100)),
            locks.exclusive(B, C).inSession().waitAtMost(Duration.ofMillis(100)),
            locks.shared(B).inSession().polling().waitAtMost(Duration.ofMillis(100))
        }) {
            assertThatThrownBy(() -> outside.of(locks.exclusive(A))
                            .guard(bounded.guard(Mono.just(1)))
                            .block(PATIENCE))
                    .isInstanceOf(LockTimeoutException.class)
                    .hasMessageContaining(B.toString());
            assertThat(waiting(server)).isZero();
            assertThat(isHeld(server, C)).isFalse();
        }
        assertThatThrownBy(() -> outside.of(locks.exclusive(A))
                        .guard(locks.exclusive(B).inSession().noWait().guard(Mono.just(1)))
                        .block(PATIENCE))
                .isInstanceOf(LockNotAvailableException.class);
        assertThat(busy.lost().toFuture()).isNotDone();
        end(busy.commit());
    }

    /** A cycle between session holds is invisible to the server: what ends it is the bound. */
    @Test
    void chainsThatNestInOppositeOrder_endByTheirBound() {
        Duration bound = Duration.ofMillis(300);
        CompletableFuture<Integer> there = new CompletableFuture<>();
        HeldLock first = get(locks.exclusive(A).inSession().acquire());
        HeldLock second = get(locks.exclusive(B).inSession().acquire());
        second.guard(locks.exclusive(A).inSession().waitAtMost(bound).guard(Mono.just(1)))
                .subscribe(there::complete, there::completeExceptionally);
        assertThatThrownBy(() -> first.guard(
                                locks.exclusive(B).inSession().waitAtMost(bound).guard(Mono.just(1)))
                        .block(PATIENCE))
                .isInstanceOf(LockTimeoutException.class);
        assertThatThrownBy(() -> there.orTimeout(10, TimeUnit.SECONDS).join())
                .hasCauseInstanceOf(LockTimeoutException.class);
        assertThat(isHeld(server, A) && isHeld(server, B)).isTrue();
        end(first.release());
        end(second.release());
    }
}
