package io.r2lock;

import static io.r2lock.FakeClient.KEY;
import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Objects;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import reactor.core.Disposable;
import reactor.core.Disposables;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;
import reactor.test.util.RaceTestUtils;

/** A lock that was granted for work which never begins has no tail. */
@Timeout(120)
class HoldAtLeastBeginTest {

    private static final int ROUNDS = 5_000;
    private static final Duration LEAST = Duration.ofMillis(700);

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    /** Runs what it is given when the test says so. */
    private static final class Later implements Scheduler {

        final Queue<Runnable> tasks = new ArrayDeque<>();

        @Override
        public Disposable schedule(Runnable task) {
            tasks.add(task);
            return Disposables.disposed();
        }

        @Override
        public Worker createWorker() {
            throw new UnsupportedOperationException();
        }

        Runnable next() {
            return Objects.requireNonNull(tasks.poll(), "nothing was scheduled");
        }
    }

    private final Later later = new Later();
    private final KeyedCalls calls = new KeyedCalls();
    private final FakeClient client = new FakeClient(later, null);
    private final FakeSession server = client.open();

    @AfterEach
    void close() {
        client.close();
        calls.close();
    }

    private LockRequest request() {
        return client.locks.exclusive(KEY).inSession().holdAtLeast(LEAST);
    }

    @Test
    void cancelBeforeTheWorkBegins_leavesNoTail() {
        Disposable call = request().guard(Mono.never()).subscribe();
        assertThat(server.held()).hasSize(1);
        call.dispose();
        client.assertRest();
        later.next().run();
        client.assertRest();
    }

    @Test
    void cancelOnceItHasBegun_doesNotShortenIt() {
        Disposable call = request().guard(Mono.never()).subscribe();
        later.next().run();
        call.dispose();
        assertThat(server.held()).hasSize(1);
        client.clock.advanceTimeBy(LEAST);
        client.assertRest();
    }

    @Test
    void schedulerThatRefuses_leavesNoTail() {
        FakeClient refusing = new FakeClient(
                new Scheduler() {
                    @Override
                    public Disposable schedule(Runnable task) {
                        throw new RejectedExecutionException("shut down");
                    }

                    @Override
                    public Worker createWorker() {
                        throw new UnsupportedOperationException();
                    }
                },
                null);
        refusing.open();
        CompletableFuture<Integer> call = refusing.locks
                .exclusive(KEY)
                .inSession()
                .holdAtLeast(LEAST)
                .guard(Mono.just(1))
                .toFuture();
        assertThat(call).isCompletedExceptionally();
        refusing.assertRest();
        refusing.close();
    }

    @Test
    void cancel_againstTheBeginning() {
        int began = 0;
        for (int i = 0; i < ROUNDS; i++) {
            AtomicBoolean applied = new AtomicBoolean();
            Disposable call = request()
                    .guard(hold -> {
                        applied.set(true);
                        return Mono.never();
                    })
                    .subscribe();
            Runnable run = later.next();
            if (i % 2 == 0) {
                RaceTestUtils.race(run, call::dispose);
            } else {
                RaceTestUtils.race(call::dispose, run);
            }
            if (applied.get()) {
                began++;
                assertThat(server.held()).hasSize(1);
                client.clock.advanceTimeBy(LEAST);
            }
            client.assertRest();
        }
        assertThat(began).isBetween(1, ROUNDS - 1);
    }

    private Flux<Integer> kept(Integer... items) {
        return calls.client.locks.flatMapLocked(
                Flux.just(items), item -> calls.exclusive(1).holdAtLeast(LEAST), calls::work, 8);
    }

    /** The second has the lock by then, or is about to have it, and waits to hear how the first has ended. */
    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void queuedItemWhoseTurnDoesNotCome_leavesNoTail(boolean ordered) {
        for (int i = 0; i < 200; i++) {
            calls.works.clear();
            calls.begun.clear();
            AtomicBoolean failed = new AtomicBoolean();
            kept(10, 11).subscribe(value -> {}, error -> failed.set(true));
            calls.awaitBegun(1);
            // the first has no tail any more
            calls.client.clock.advanceTimeBy(LEAST);
            Runnable fails = () -> calls.fail(10, new IllegalStateException("work"));
            if (ordered) {
                // there, whoever has the turn is told before the stream is
                Schedulers.parallel().schedule(fails);
            } else {
                fails.run();
            }
            FakeClient.until("the end", failed::get);
            assertThat(calls.begun).containsExactly(10);
            calls.client.assertRest();
        }
    }
}
