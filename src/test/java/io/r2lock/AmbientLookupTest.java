package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.test.util.RaceTestUtils;

/** An {@link AmbientTransaction} that answers late, and says that there is none: what may come before its answer. */
@Timeout(120)
class AmbientLookupTest {

    private static final int ROUNDS = 5_000;
    private static final Duration WAIT = Duration.ofMillis(500);

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    /** Of each request that has asked, in their order. */
    private final Queue<Sinks.One<AmbientTransaction.Participation>> answers = new ConcurrentLinkedQueue<>();

    private FakeClient client = open();

    private FakeClient open() {
        return new FakeClient(null, () -> {
            Sinks.One<AmbientTransaction.Participation> answer = Sinks.one();
            answers.add(answer);
            return answer.asMono();
        });
    }

    @AfterEach
    void close() {
        client.close();
    }

    private Runnable answer() {
        Sinks.One<AmbientTransaction.Participation> asked = answers.remove();
        return asked::tryEmitEmpty;
    }

    private static void race(int round, Runnable one, Runnable other) {
        if (round % 2 == 0) {
            RaceTestUtils.race(one, other);
        } else {
            RaceTestUtils.race(other, one);
        }
    }

    @Test
    void itsTimeCountsAgainstTheWait() {
        FakeCaller holder = client.acquire();
        answer().run();
        // its session opens on another thread
        holder.assertToldOnce();
        FakeCaller caller =
                client.acquire(client.locks.exclusive(FakeClient.KEY).waitAtMost(WAIT));
        client.clock.advanceTimeBy(WAIT.minusMillis(100));
        answer().run();
        assertThat(caller.isTold()).isFalse();
        client.clock.advanceTimeBy(Duration.ofMillis(100));
        assertThat(caller.error()).isInstanceOf(LockTimeoutException.class);
        holder.release();
        client.assertRest();
    }

    @Test
    void timeIsOverBeforeIt_andItComesTooLate() {
        FakeCaller caller =
                client.acquire(client.locks.exclusive(FakeClient.KEY).waitAtMost(WAIT));
        client.clock.advanceTimeBy(WAIT.minusNanos(1));
        assertThat(caller.isTold()).isFalse();
        client.clock.advanceTimeBy(Duration.ofNanos(1));
        assertThat(caller.error())
                .isInstanceOfSatisfying(
                        LockTimeoutException.class,
                        error -> assertThat(error.waited()).isEqualTo(WAIT));
        answer().run();
        caller.assertToldOnce();
        assertThat(client.sessions).isEmpty();
    }

    @Test
    void timeout_againstTheAnswer() {
        int granted = 0;
        for (int i = 0; i < ROUNDS; i++) {
            FakeCaller caller =
                    client.acquire(client.locks.exclusive(FakeClient.KEY).waitAtMost(WAIT));
            race(i, answer(), () -> client.clock.advanceTimeBy(WAIT));
            caller.assertToldOnce();
            granted += caller.hasHold() ? 1 : 0;
            caller.release();
            FakeClient.until("rest", () -> client.locks.live() == 0 && client.locks.waiting() == 0);
        }
        assertThat(granted).isBetween(1, ROUNDS - 1);
    }

    @Test
    void cancel_againstTheAnswer() {
        for (int i = 0; i < ROUNDS; i++) {
            FakeCaller caller = client.acquire();
            race(i, answer(), caller::cancel);
            FakeClient.until("rest", () -> client.locks.live() == 0 && client.locks.waiting() == 0);
            caller.assertToldAtMostOnce();
        }
    }

    @Test
    void close_againstTheAnswer() {
        for (int i = 0; i < ROUNDS / 10; i++) {
            CompletableFuture<Integer> call = client.locks
                    .exclusive(FakeClient.KEY)
                    .inSession()
                    .guard(Mono.just(1))
                    .toFuture();
            CompletableFuture<Void> closed = new CompletableFuture<>();
            race(
                    i,
                    answer(),
                    () -> client.locks
                            .close()
                            .subscribe(nothing -> {}, closed::completeExceptionally, () -> closed.complete(null)));
            assertThat(closed).succeedsWithin(Duration.ofSeconds(20));
            FakeClient.until("an answer", call::isDone);
            if (call.isCompletedExceptionally()) {
                assertThatThrownBy(call::join).hasCauseInstanceOf(LocksClosedException.class);
            }
            client.close();
            client = open();
        }
    }

    @Test
    void close_againstTheQuestion() {
        for (int i = 0; i < ROUNDS / 10; i++) {
            CompletableFuture<Integer> call = new CompletableFuture<>();
            race(
                    i,
                    () -> client.locks
                            .exclusive(FakeClient.KEY)
                            .inSession()
                            .guard(Mono.just(1))
                            .subscribe(call::complete, call::completeExceptionally),
                    () -> client.locks.close().subscribe());
            FakeClient.until("an answer", call::isDone);
            assertThatThrownBy(call::join).hasCauseInstanceOf(LocksClosedException.class);
            answers.clear();
            client.close();
            client = open();
        }
    }

    @Test
    void itemsOfOneKey_runInTheirOrder_thoughTheFirstIsAnsweredLast() {
        Flux<Integer> stream = client.locks.flatMapLocked(
                Flux.just(1, 2, 3),
                item -> client.locks.exclusive(FakeClient.KEY).inSession(),
                Mono::just,
                8);
        var taken = stream.collectList().toFuture();
        var first = answers.remove();
        // of those that have asked already
        for (var later = answers.poll(); later != null; later = answers.poll()) {
            later.tryEmitEmpty().orThrow();
        }
        first.tryEmitEmpty().orThrow();
        FakeClient.until("the end", () -> {
            if (!answers.isEmpty()) {
                answer().run();
            }
            return taken.isDone();
        });
        assertThat(taken.join()).containsExactly(1, 2, 3);
    }
}
