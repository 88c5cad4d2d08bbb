package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.test.StepVerifier;

/** One of so many permits: how many hold at once, who is next, and what a refusal says. Two clients stand for two processes. */
class PermitIT {

    private static final LockKey KEY = LockKey.named("contract", "permit");

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private DefaultAdvisoryLocks here;
    private DefaultAdvisoryLocks there;

    @BeforeEach
    void setUp() {
        here = clients.open(server, builder -> builder.sessionConnections(3));
        there = clients.open(server);
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    private static void assertBusy(LockRequest request) {
        assertThatThrownBy(() -> request.noWait().acquire().block(PATIENCE))
                .isInstanceOf(LockNotAvailableException.class)
                .hasMessageContaining("Busy");
    }

    private static void assertFree(LockRequest request) {
        assertThat(request.noWait().guard(Mono.just(1)).block(PATIENCE)).isEqualTo(1);
    }

    private List<HeldLock> hold(DefaultAdvisoryLocks client, int count, int permits) {
        return IntStream.range(0, count)
                .mapToObj(i -> acquire(client.permit(KEY, permits)))
                .toList();
    }

    @Test
    void soManyHoldAtOnce_andNotOneMore_hereAndThere() {
        List<HeldLock> holds = new ArrayList<>(hold(here, 2, 3));
        assertFree(here.permit(KEY, 3));
        assertFree(there.permit(KEY, 3));
        holds.addAll(hold(there, 1, 3));
        assertThat(sessions.held()).isEqualTo(3);
        for (DefaultAdvisoryLocks client : List.of(here, there)) {
            assertBusy(client.permit(KEY, 3));
            assertThat(client.permit(KEY, 3).skipIfBusy().guard(Mono.just(1)).blockOptional(PATIENCE))
                    .isEmpty();
        }
        while (!holds.isEmpty()) {
            release(holds.remove(0));
            assertFree(here.permit(KEY, 3));
            assertFree(there.permit(KEY, 3));
        }
        assertThat(sessions.held()).isZero();
    }

    @Test
    void neverMoreHoldersThanPermits_underContention() {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        Mono<Integer> work = Mono.fromSupplier(() -> most.accumulateAndGet(inside.incrementAndGet(), Math::max))
                .delayElement(Duration.ofMillis(1))
                .doOnNext(last -> inside.decrementAndGet());
        Long done = Flux.range(0, 400)
                .flatMap(i -> (i % 2 == 0 ? here : there).permit(KEY, 3).guard(work), 400)
                .count()
                .block(PATIENCE);
        assertThat(done).isEqualTo(400);
        assertThat(most.get()).isBetween(2, 3);
    }

    @Test
    void waiting_isServedWhenAnyHolderEnds_hereAndThere() {
        for (DefaultAdvisoryLocks client : List.of(here, there)) {
            for (int ends = 0; ends < 3; ends++) {
                List<HeldLock> holds = new ArrayList<>(hold(here, 3, 3));
                CompletableFuture<Integer> waiting =
                        client.permit(KEY, 3).guard(Mono.just(1)).toFuture();
                assertThat(waiting).isNotDone();
                release(holds.remove(ends));
                assertThat(waiting).succeedsWithin(PATIENCE).isEqualTo(1);
                holds.forEach(TestClients::release);
            }
        }
    }

    @Test
    void callersOfOneProcess_areServedInOrder() {
        List<HeldLock> holds = hold(here, 1, 2);
        List<HeldLock> elsewhere = hold(there, 1, 2);
        Queue<Integer> order = new ConcurrentLinkedQueue<>();
        List<CompletableFuture<Integer>> calls = IntStream.range(0, 50)
                .mapToObj(i -> here.permit(KEY, 2)
                        .guard(Mono.fromSupplier(() -> {
                            order.add(i);
                            return i;
                        }))
                        .toFuture())
                .toList();
        release(holds.get(0));
        calls.forEach(call -> assertThat(call).succeedsWithin(PATIENCE));
        assertThat(order)
                .containsExactlyElementsOf(IntStream.range(0, 50).boxed().toList());
        release(elsewhere.get(0));
    }

    @Test
    void handingOver_leavesTheOtherProcessItsTurn() {
        DefaultAdvisoryLocks few = clients.open(server, builder -> builder.handOffLimit(4));
        AtomicInteger done = new AtomicInteger();
        AtomicInteger doneBefore = new AtomicInteger(-1);
        Mono<Long> work = Mono.delay(Duration.ofMillis(5)).doOnNext(tick -> done.incrementAndGet());
        CompletableFuture<Long> many = Flux.range(0, 2_000)
                .flatMap(i -> few.permit(KEY, 1).guard(work), 2_000)
                .takeUntil(tick -> doneBefore.get() >= 0)
                .count()
                .toFuture();
        Await.until("begun", () -> done.get() > 0);
        there.permit(KEY, 1)
                .guard(Mono.fromRunnable(() -> doneBefore.set(done.get())))
                .block(PATIENCE);
        assertThat(many).succeedsWithin(PATIENCE);
        assertThat(doneBefore.get()).isLessThan(2_000);
    }

    @Test
    void theHold_tellsTheKeyAskedFor() {
        HeldLock hold = acquire(here.permit(KEY, 2));
        assertThat(hold.keys()).containsExactly(KEY);
        assertThat(hold.mode()).isEqualTo(LockMode.EXCLUSIVE);
        assertThat(server.count("select count(*) from pg_locks where locktype = 'advisory' and granted"
                        + " and objsubid = 1 and pid = " + hold.backendPid()))
                .isOne();
        assertThatThrownBy(hold::connection)
                .isInstanceOf(UnsupportedOperationException.class)
                .hasMessageContaining(KEY.toString());
        release(hold);
    }

    @Test
    void refusals_tellTheKeyAskedFor_theNumberAndTheTime() {
        List<HeldLock> holds = hold(there, 2, 2);
        LockNotAvailableException busy = catchThrowableOfType(
                LockNotAvailableException.class,
                () -> acquire(here.permit(KEY, 2).noWait()));
        assertThat(busy.keys()).containsExactly(KEY);
        assertThat(busy).hasMessageContainingAll("permit (one of 2) of " + KEY);

        LockTimeoutException late = catchThrowableOfType(
                LockTimeoutException.class, () -> acquire(here.permit(KEY, 2).waitAtMost(Duration.ofMillis(100))));
        assertThat(late.keys()).containsExactly(KEY);
        assertThat(late.waited()).isGreaterThanOrEqualTo(Duration.ofMillis(100));
        assertThat(late.onServer()).isGreaterThan(late.atGate());
        assertThat(late).hasMessageContainingAll("permit (one of 2) of " + KEY, "ms for the server's lock");
        holds.forEach(TestClients::release);

        List<HeldLock> own = hold(here, 2, 2);
        LockTimeoutException behind = catchThrowableOfType(
                LockTimeoutException.class, () -> acquire(here.permit(KEY, 2).waitAtMost(Duration.ofMillis(100))));
        assertThat(behind.atGate()).isGreaterThan(behind.onServer());
        own.forEach(TestClients::release);
    }

    @Test
    void anotherNumber_isRefusedAtSubscription_whileTheKeyIsUsedHere() {
        HeldLock hold = acquire(here.permit(KEY, 2));
        LockRequest other = here.permit(KEY, 3);
        for (Mono<?> call : List.of(
                other.guard(Mono.just(1)), other.acquire(), other.noWait().acquire())) {
            StepVerifier.create(call)
                    .expectErrorSatisfies(error -> assertThat(error)
                            .isInstanceOf(IllegalStateException.class)
                            .hasMessageContainingAll(KEY.toString(), "one of 3", "2 permits"))
                    .verify(PATIENCE);
        }
        release(hold);
        assertFree(other);
    }

    @Test
    void processesThatDisagree_shareTheFirstPermits() {
        List<HeldLock> holds = hold(here, 2, 2);
        assertBusy(there.permit(KEY, 1));
        List<HeldLock> more = hold(there, 1, 3);
        assertBusy(there.permit(KEY, 3));
        holds.forEach(TestClients::release);
        more.forEach(TestClients::release);
    }

    @Test
    void aLock_andAPermit_ofOneKey_doNotMeet() {
        HeldLock permit = acquire(here.permit(KEY, 1));
        assertFree(here.exclusive(KEY));
        assertFree(there.exclusive(KEY).inSession());
        release(permit);
        HeldLock lock = acquire(here.exclusive(KEY).inSession());
        assertFree(here.permit(KEY, 1));
        release(lock);
    }

    @Test
    void holdAtMost_endsIt() {
        assertThatThrownBy(() -> here.permit(KEY, 1)
                        .holdAtMost(Duration.ofMillis(50))
                        .guard(Mono.never())
                        .block(PATIENCE))
                .isInstanceOf(LockHoldExpiredException.class)
                .hasMessageContaining(KEY.toString());
        assertFree(there.permit(KEY, 1));
    }

    @Test
    void aLostConnection_endsItsHolds_andOthersTakeThePermits() {
        residue.allowLog(Level.WARN, "io.r2lock");
        HeldLock hold = acquire(there.permit(KEY, 1));
        CompletableFuture<Integer> waiting =
                there.permit(KEY, 1).guard(Mono.just(1)).toFuture();
        server.execute("select pg_terminate_backend(" + hold.backendPid() + ")");
        StepVerifier.create(hold.lost())
                .expectErrorSatisfies(error -> assertThat(error)
                        .isInstanceOf(LockLostException.class)
                        .hasMessageContaining("one of 1")
                        .hasMessageContaining(KEY.toString()))
                .verify(PATIENCE);
        assertThat(waiting).succeedsWithin(PATIENCE);
        assertFree(here.permit(KEY, 1));
    }

    @Test
    void anIdleConnectionThatBroke_isReplaced() {
        HeldLock hold = acquire(there.permit(KEY, 1));
        release(hold);
        server.execute("select pg_terminate_backend(" + hold.backendPid() + ")");
        assertFree(there.permit(KEY, 1));
    }

    @Test
    void close_endsThoseWhoWait_thenTheHolds() {
        HeldLock hold = acquire(here.permit(KEY, 1));
        CompletableFuture<HeldLock> waiting = here.permit(KEY, 1).acquire().toFuture();
        CompletableFuture<HeldLock> polling = there.permit(KEY, 1).acquire().toFuture();
        CompletableFuture<Void> closed = here.close().toFuture();
        assertThat(waiting).failsWithin(PATIENCE).withThrowableThat().withCauseInstanceOf(LocksClosedException.class);
        assertThat(there.close().toFuture()).succeedsWithin(PATIENCE);
        assertThat(polling).failsWithin(PATIENCE).withThrowableThat().withCauseInstanceOf(LocksClosedException.class);
        assertThat(closed).isNotDone();
        release(hold);
        assertThat(closed).succeedsWithin(PATIENCE);
    }
}
