package io.r2lock;

import static io.r2lock.FakeClient.KEY;
import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.test.util.RaceTestUtils;

/** The tail of a hold, and what may meet its beginning and its end: nothing is left, and nobody is kept out for longer. */
class HoldAtLeastRaceTest {

    private static final int ROUNDS = 5_000;
    private static final int CLOSES = 1_500;
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

    private static <T> CompletableFuture<T> told(Mono<T> call) {
        return call.toFuture();
    }

    private void ranQuickly() {
        assertThat(told(request().guard(Mono.just(1)))).isCompletedWithValue(1);
    }

    private static void race(int round, Runnable one, Runnable other) {
        if (round % 2 == 0) {
            RaceTestUtils.race(one, other);
        } else {
            RaceTestUtils.race(other, one);
        }
    }

    @Test
    void cancel_againstTheEndOfTheWork() {
        for (int i = 0; i < ROUNDS; i++) {
            Sinks.One<Integer> work = Sinks.one();
            Disposable call = request().guard(work.asMono()).subscribe();
            race(i, call::dispose, () -> work.tryEmitValue(1));
            assertThat(server.held()).hasSize(1);
            client.clock.advanceTimeBy(LEAST);
            client.assertRest();
        }
    }

    /** The tail is of work that has begun, and of no other. */
    @Test
    void cancel_againstTheGrant() {
        client.answersAtOnce = false;
        client.close();
        client = new FakeClient();
        client.answersAtOnce = false;
        server = client.open();
        for (int i = 0; i < ROUNDS * 4; i++) {
            AtomicBoolean began = new AtomicBoolean();
            Disposable call = request()
                    .guard(Mono.never().doOnSubscribe(subscription -> began.set(true)))
                    .subscribe();
            race(i, server::answer, call::dispose);
            if (began.get()) {
                assertThat(server.held()).hasSize(1);
                client.clock.advanceTimeBy(LEAST);
            }
            server.answerAll();
            client.assertRest();
        }
    }

    @Test
    void endOfTheTail_againstALoss() {
        for (int i = 0; i < ROUNDS; i++) {
            server = client.open();
            ranQuickly();
            race(i, () -> client.clock.advanceTimeBy(LEAST), () -> server.breaks(SessionCalls.error("08006")));
            client.assertRest();
        }
    }

    @Test
    void endOfTheTail_againstANewWaiter() {
        for (int i = 0; i < ROUNDS; i++) {
            ranQuickly();
            FakeCaller[] late = new FakeCaller[1];
            race(i, () -> client.clock.advanceTimeBy(LEAST), () -> late[0] = client.acquire());
            late[0].assertToldOnce();
            late[0].release();
            client.assertRest();
        }
    }

    @Test
    void close_againstTheEndOfTheWork() {
        for (int i = 0; i < CLOSES; i++) {
            Sinks.One<Integer> work = Sinks.one();
            CompletableFuture<Integer> told = told(request().guard(work.asMono()));
            AtomicReference<CompletableFuture<Void>> closed = new AtomicReference<>();
            race(i, () -> closed.set(told(client.locks.close())), () -> work.tryEmitValue(1));
            assertThat(told).isCompletedWithValue(1);
            assertThat(closed.get()).succeedsWithin(Duration.ofSeconds(20));
            reopen();
        }
    }

    @Test
    void close_againstTheEndOfTheTail() {
        for (int i = 0; i < CLOSES; i++) {
            ranQuickly();
            AtomicReference<CompletableFuture<Void>> closed = new AtomicReference<>();
            race(i, () -> closed.set(told(client.locks.close())), () -> client.clock.advanceTimeBy(LEAST));
            assertThat(closed.get()).succeedsWithin(Duration.ofSeconds(20));
            reopen();
        }
    }

    private void reopen() {
        assertThat(server.held()).isEmpty();
        assertThat(server.closes).hasValue(1);
        assertThat(client.locks.live()).isZero();
        client.close();
        client = new FakeClient();
        server = client.open();
    }
}
