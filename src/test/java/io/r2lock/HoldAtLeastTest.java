package io.r2lock;

import static io.r2lock.FakeClient.KEY;
import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.util.context.Context;
import reactor.util.context.ContextView;

/** The tail of a hold, in a time that stands still unless the test moves it: what is told when, and who is kept out how long. */
class HoldAtLeastTest {

    private static final Duration LEAST = Duration.ofMillis(700);

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    private FakeClient client = new FakeClient();
    private FakeSession server = client.open();

    @AfterEach
    void close() {
        client.close();
    }

    private LockRequest request() {
        return client.locks.exclusive(KEY).inSession().holdAtLeast(LEAST);
    }

    private void ranQuickly() {
        assertThat(told(request().guard(Mono.just(1)))).isCompletedWithValue(1);
    }

    private void assertKept() {
        assertThat(server.held()).hasSize(1);
        FakeCaller other = client.acquire(client.locks.exclusive(KEY).noWait());
        assertThat(other.error()).isInstanceOf(LockNotAvailableException.class);
    }

    /** The lock is kept until its time is over, to the nanosecond, and then nothing is left. */
    private void assertTail(Duration passed) {
        assertKept();
        client.clock.advanceTimeBy(LEAST.minus(passed).minusNanos(1));
        assertKept();
        client.clock.advanceTimeBy(Duration.ofNanos(1));
        client.assertRest();
    }

    private static <T> CompletableFuture<T> told(Mono<T> call) {
        return call.toFuture();
    }

    private static Throwable error(CompletableFuture<?> told) {
        assertThat(told).isCompletedExceptionally();
        return told.handle((value, error) -> error).join();
    }

    @Test
    void value_isToldAtOnce_theLockIsFreeWhenTheTimeIsOver() {
        ranQuickly();
        assertTail(Duration.ZERO);
    }

    @Test
    void theTimeCountsFromTheGrant() {
        Sinks.One<Integer> work = Sinks.one();
        CompletableFuture<Integer> told = told(request().guard(work.asMono()));
        client.clock.advanceTimeBy(Duration.ofMillis(300));
        work.tryEmitValue(1).orThrow();
        assertThat(told).isCompletedWithValue(1);
        assertTail(Duration.ofMillis(300));
    }

    @Test
    void workThatLastsLonger_hasNoTail() {
        Sinks.One<Integer> work = Sinks.one();
        CompletableFuture<Integer> told = told(request().guard(work.asMono()));
        client.clock.advanceTimeBy(LEAST);
        work.tryEmitValue(1).orThrow();
        assertThat(told).isCompletedWithValue(1);
        client.assertRest();
    }

    @Test
    void errorOfTheWork_isToldAtOnce_andDoesNotShortenIt() {
        IllegalStateException error = new IllegalStateException("work");
        CompletableFuture<Object> told = told(request().guard(Mono.error(error)));
        assertThat(told).isCompletedExceptionally();
        assertThat(error(told)).isSameAs(error);
        assertTail(Duration.ZERO);
    }

    @Test
    void cancel_doesNotShortenIt() {
        request().guard(Mono.never()).subscribe().dispose();
        assertTail(Duration.ZERO);
    }

    @Test
    void expiry_atTheSameLength_leavesNoTail() {
        CompletableFuture<Object> told = told(request().holdAtMost(LEAST).guard(Mono.never()));
        client.clock.advanceTimeBy(LEAST);
        assertThat(error(told)).isInstanceOf(LockHoldExpiredException.class);
        client.assertRest();
    }

    @Test
    void acquiredHold_isReleasedOrCommittedAtOnce() {
        for (boolean commit : new boolean[] {true, false}) {
            HeldLock hold = client.acquire(request()).hold();
            assertThat(told(commit ? hold.commit() : hold.release())).isCompleted();
            assertThat(told(hold.lost())).isCompleted();
            assertTail(Duration.ZERO);
        }
    }

    @Test
    void permit_isKeptToo_whichIsARateLimit() {
        LockRequest permit = client.locks.permit(KEY, 1).holdAtLeast(LEAST);
        assertThat(told(permit.guard(Mono.just(1))))
                .succeedsWithin(Duration.ofSeconds(20))
                .isEqualTo(1);
        CompletableFuture<Integer> next = told(permit.guard(Mono.just(2)));
        client.clock.advanceTimeBy(LEAST.minusNanos(1));
        assertThat(next).isNotDone();
        client.clock.advanceTimeBy(Duration.ofNanos(1));
        assertThat(next).succeedsWithin(Duration.ofSeconds(20)).isEqualTo(2);
        client.clock.advanceTimeBy(LEAST);
        client.assertRest();
    }

    @Test
    void callersOfThisProcess_waitUntilItIsOver_andTakeTheLockOver() {
        ranQuickly();
        FakeCaller waiter = client.acquire();
        client.clock.advanceTimeBy(LEAST.minusNanos(1));
        assertThat(waiter.isTold()).isFalse();
        int before = server.messages.size();
        client.clock.advanceTimeBy(Duration.ofNanos(1));
        waiter.assertToldOnce();
        assertThat(waiter.hasHold()).isTrue();
        assertThat(server.messages).hasSize(before);
        waiter.release();
        client.assertRest();
    }

    @Test
    void requestOfTheSameChain_doesNotJoinTheTail() {
        AtomicReference<ContextView> inside = new AtomicReference<>(Context.empty());
        assertThat(told(request().guard(Mono.deferContextual(context -> {
                    inside.set(context);
                    return Mono.just(1);
                }))))
                .isCompletedWithValue(1);
        CompletableFuture<HeldLock> late = told(client.locks
                .exclusive(KEY)
                .inSession()
                .noWait()
                .acquire()
                .contextWrite(Objects.requireNonNull(inside.get())));
        assertThat(error(late)).isInstanceOf(LockNotAvailableException.class);
        assertTail(Duration.ZERO);
    }

    @Test
    void joinedRequest_isRefused_asItCannotBeKept() {
        CompletableFuture<Integer> told =
                told(client.locks.exclusive(KEY).inSession().guard(request().guard(Mono.just(1))));
        assertThat(error(told))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContainingAll("holdAtLeast", "PT0.7S", "surrounding hold");
        client.assertRest();
    }

    @Test
    void whoNeverGotIt_keepsNothing() {
        client.answersAtOnce = false;
        client.close();
        client = new FakeClient();
        client.answersAtOnce = false;
        server = client.open();
        Disposable call = request().guard(Mono.never()).subscribe();
        call.dispose();
        server.answerAll();
        client.assertRest();
        FakeCaller caller = client.acquire(request());
        caller.cancel();
        server.answerAll();
        client.assertRest();
    }

    @Test
    void close_endsItAtOnce() {
        ranQuickly();
        FakeCaller waiter = client.acquire();
        CompletableFuture<Void> closed = told(client.locks.close());
        assertThat(closed).succeedsWithin(Duration.ofSeconds(20));
        assertThat(waiter.error()).isInstanceOf(LocksClosedException.class);
        assertThat(server.held()).isEmpty();
    }

    @Test
    void workThatEndsWhileTheClientCloses_hasNone() {
        Sinks.One<Integer> work = Sinks.one();
        CompletableFuture<Integer> told = told(request().guard(work.asMono()));
        CompletableFuture<Void> closed = told(client.locks.close());
        work.tryEmitValue(1).orThrow();
        assertThat(told).isCompletedWithValue(1);
        assertThat(closed).succeedsWithin(Duration.ofSeconds(20));
    }

    /** NoResidue sees that it is not logged. */
    @Test
    void loss_isToldToNobody_andLeavesNothing() {
        CompletableFuture<Integer> told = told(request().guard(Mono.just(1)));
        server.breaks(SessionCalls.error("08006"));
        client.clock.advanceTimeBy(LEAST);
        assertThat(told).isCompletedWithValue(1);
        FakeCaller next = client.acquire();
        next.assertToldOnce();
        assertThat(client.newest()).isNotSameAs(server);
        next.release();
        client.assertRest();

        server = client.newest();
        ranQuickly();
        server.forget(KEY);
        client.clock.advanceTimeBy(LEAST);
        client.assertRest();
    }
}
