package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Permits inside holds, and holds inside permits. */
class PermitNestingIT {

    private static final LockKey KEY = LockKey.of(4_711);
    private static final Duration LONG = Duration.ofMinutes(1);

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private DefaultAdvisoryLocks locks;

    @BeforeEach
    void setUp() {
        locks = clients.open(server);
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    private Mono<Long> held() {
        return Mono.fromSupplier(sessions::held);
    }

    private Mono<Long> blocking(Mono<Long> work) {
        return work.subscribeOn(reactor.core.scheduler.Schedulers.boundedElastic());
    }

    @Test
    void theSamePermit_isReentrant() {
        Mono<Long> inner = locks.permit(KEY, 1).guard(blocking(held()));
        assertThat(locks.permit(KEY, 1).guard(inner).block(PATIENCE)).isEqualTo(1);
        Mono<Long> deep = locks.permit(KEY, 1).guard(locks.exclusive(KEY).guard(inner));
        assertThat(deep.block(PATIENCE)).isEqualTo(2);
    }

    @Test
    void siblingsInsideOnePermit_takeTurns() {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        Mono<Integer> work = Mono.fromSupplier(() -> most.accumulateAndGet(inside.incrementAndGet(), Math::max))
                .delayElement(Duration.ofMillis(5))
                .doOnNext(last -> inside.decrementAndGet());
        Flux<Integer> siblings =
                Flux.range(0, 5).flatMap(i -> locks.permit(KEY, 3).guard(work), 5);
        assertThat(locks.permit(KEY, 3).guard(siblings).count().block(PATIENCE)).isEqualTo(5);
        assertThat(most).hasValue(1);
    }

    @Test
    void aLockInsideAPermitOfItsKey_isTaken() {
        Mono<Long> transaction = locks.permit(KEY, 2).guard(locks.exclusive(KEY).guard(blocking(held())));
        assertThat(transaction.block(PATIENCE)).isEqualTo(2);
        Mono<Long> session = locks.permit(KEY, 2)
                .guard(locks.exclusive(KEY).inSession().noWait().guard(blocking(held())));
        assertThat(session.block(PATIENCE)).isEqualTo(2);

        HeldLock elsewhere = acquire(clients.open(server).exclusive(KEY));
        assertThatThrownBy(() -> locks.permit(KEY, 2)
                        .guard(locks.exclusive(KEY).noWait().guard(Mono.just(1)))
                        .block(PATIENCE))
                .isInstanceOf(LockNotAvailableException.class);
        release(elsewhere);
    }

    @Test
    void aPermitInsideALockOfItsKey_isTaken() {
        LockRequest permit = locks.permit(KEY, 2).waitAtMost(LONG);
        assertThat(locks.exclusive(KEY).guard(permit.guard(blocking(held()))).block(PATIENCE))
                .isEqualTo(2);
        assertThat(locks.exclusive(KEY)
                        .inSession()
                        .guard(permit.guard(blocking(held())))
                        .block(PATIENCE))
                .isEqualTo(2);
        DefaultAdvisoryLocks there = clients.open(server);
        HeldLock one = acquire(there.permit(KEY, 1));
        assertThatThrownBy(() -> locks.exclusive(KEY)
                        .guard(locks.permit(KEY, 1).noWait().guard(Mono.just(1)))
                        .block(PATIENCE))
                .isInstanceOf(LockNotAvailableException.class);
        release(one);
    }

    @Test
    void aWaitInsideAHold_mustBeBounded() {
        for (LockRequest outer : java.util.List.of(
                locks.exclusive(KEY), locks.exclusive(KEY).inSession(), locks.permit(LockKey.of(1), 1))) {
            assertThatThrownBy(() -> outer.guard(locks.permit(KEY, 2).guard(Mono.just(1)))
                            .block(PATIENCE))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContainingAll("wait must be bounded", KEY.toString());
            assertThat(outer.guard(locks.permit(KEY, 2).waitAtMost(LONG).guard(Mono.just(1)))
                            .block(PATIENCE))
                    .isEqualTo(1);
        }
    }

    @Test
    void asNew_ofAPermitThatTheChainHas_isRefused() {
        LockRequest again = locks.permit(KEY, 2).requireNew().waitAtMost(LONG);
        assertThatThrownBy(() ->
                        locks.permit(KEY, 2).guard(again.guard(Mono.just(1))).block(PATIENCE))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining(KEY.toString());
    }

    @Test
    void anotherNumberInsideTheChain_isRefused() {
        LockRequest other = locks.permit(KEY, 3).waitAtMost(LONG);
        assertThatThrownBy(() ->
                        locks.permit(KEY, 2).guard(other.guard(Mono.just(1))).block(PATIENCE))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContainingAll(KEY.toString(), "one of 3", "2 permits");
    }

    @Test
    void whoHoldsSomething_goesBeforeThoseWhoDoNot() {
        Queue<String> order = new ConcurrentLinkedQueue<>();
        HeldLock hold = acquire(locks.permit(KEY, 1));
        CompletableFuture<Void> waiting = locks.permit(KEY, 1)
                .guard(Mono.<Void>fromRunnable(() -> order.add("waiting")))
                .toFuture();
        CompletableFuture<Void> nested = locks.exclusive(LockKey.of(1))
                .guard(locks.permit(KEY, 1).waitAtMost(LONG).guard(Mono.<Void>fromRunnable(() -> order.add("nested"))))
                .toFuture();
        Await.until("nested waits", () -> locks.waiting() == 2 && sessions.held() == 2);
        release(hold);
        assertThat(waiting).succeedsWithin(PATIENCE);
        assertThat(nested).succeedsWithin(PATIENCE);
        assertThat(order).containsExactly("nested", "waiting");
    }

    @Test
    void theEndOfTheHoldAround_endsTheWait() {
        HeldLock hold = acquire(locks.permit(KEY, 1));
        CompletableFuture<Integer> nested = locks.exclusive(LockKey.of(1))
                .holdAtMost(Duration.ofMillis(50))
                .guard(locks.permit(KEY, 1).waitAtMost(LONG).guard(Mono.just(1)))
                .toFuture();
        assertThat(nested)
                .failsWithin(PATIENCE)
                .withThrowableThat()
                .withCauseInstanceOf(LockHoldExpiredException.class);
        Await.until("nobody waits", () -> locks.waiting() == 0);
        release(hold);
    }

    @Test
    void anAcquiredPermit_guardsWhatJoinsIt() {
        HeldLock hold = acquire(locks.permit(KEY, 1));
        assertThat(hold.guard(locks.permit(KEY, 1).guard(Mono.just(1))).block(PATIENCE))
                .isEqualTo(1);
        release(hold);
    }
}
