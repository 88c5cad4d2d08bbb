package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.netty.util.ResourceLeakDetector;
import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BiFunction;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.reactivestreams.Subscription;
import reactor.core.Disposable;
import reactor.core.publisher.BaseSubscriber;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.SignalType;

/** Cancels and deadlines aimed at the very instants of grant and commit, on a real server. */
class GuardRaceIT {

    private static final int ROUNDS = Boolean.getBoolean("long") ? 10_000 : 4_000;
    private static final int AT_ONCE = 8;
    private static final Duration SOON = Duration.ofSeconds(60);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    final NoResidue residue = NoResidue.on(server);

    private final DefaultAdvisoryLocks client = (DefaultAdvisoryLocks) AdvisoryLocks.builder(server.connectionFactory())
            .maxConnections(AT_ONCE)
            .build();

    @BeforeEach
    void trackFewBuffers() {
        // to remember where each buffer has been takes longer than a round; the storm does that
        ResourceLeakDetector.setLevel(ResourceLeakDetector.Level.SIMPLE);
    }

    @AfterEach
    void close() {
        residue.zero("pool demand", client.connections()::demand);
        residue.zero("pool acquired", client.connections()::acquired);
        residue.zero("server waits", client.connections()::serverWaits);
        residue.zero("gates", client.gates()::size);
        residue.zero("live", client::live);
        residue.zero("waiting", client::waiting);
        residue.check();
        CleanBorrowers borrowers = new CleanBorrowers(client.connections());
        borrowers.borrowAll(AT_ONCE);
        assertThat(borrowers.dirty()).isEmpty();
        client.close().block(SOON);
    }

    /** Each lane of calls has a key of its own; a call begins when the one before it has ended. */
    private static void rounds(int lanes, BiFunction<LockKey, Integer, Mono<?>> call) {
        Flux.range(0, lanes)
                .flatMap(
                        lane -> Flux.range(0, ROUNDS / lanes)
                                .concatMap(round -> call.apply(LockKey.of(80_000 + lane), round)),
                        lanes)
                .blockLast(SOON);
    }

    /** A time that homes in on an instant: earlier after each round that was late, later after one that was early. */
    private static final class Aim {

        private final AtomicLong nanos = new AtomicLong(500_000);

        long next() {
            long now = nanos.get();
            return now + ThreadLocalRandom.current().nextLong(now / 4) - now / 8;
        }

        void wasLate() {
            nanos.updateAndGet(now -> Math.max(20_000, now - now / 50));
        }

        void wasEarly() {
            nanos.updateAndGet(now -> Math.min(20_000_000, now + now / 50));
        }
    }

    private static void spin(long nanos) {
        long until = System.nanoTime() + nanos;
        while (System.nanoTime() < until) {
            Thread.onSpinWait();
        }
    }

    @Test
    void cancelRacesGrant() {
        AtomicInteger worked = new AtomicInteger();
        Aim aim = new Aim();
        for (int i = 0; i < ROUNDS; i++) {
            int before = worked.get();
            Disposable call = client.withAdvisoryLock(
                            LockKey.of(80_000 + i % AT_ONCE), Mono.fromRunnable(worked::incrementAndGet))
                    .subscribe();
            spin(aim.next());
            call.dispose();
            if (worked.get() > before) {
                aim.wasLate();
            } else {
                aim.wasEarly();
            }
        }
        assertThat(worked.get()).as("some granted, some cancelled").isBetween(ROUNDS / 10, ROUNDS - ROUNDS / 10);
    }

    @Test
    void cancelRacesCommit() {
        AtomicInteger values = new AtomicInteger();
        AtomicInteger rejected = new AtomicInteger();
        rounds(
                AT_ONCE,
                (key, round) -> Mono.create(sink -> {
                    Canceller caller = new Canceller(sink::success);
                    client.withAdvisoryLock(key, Mono.fromSupplier(() -> {
                                // runs against the end of this very work
                                client.options().clock().schedule(() -> {
                                    spin(ThreadLocalRandom.current().nextLong(20_000));
                                    caller.cancel();
                                });
                                spin(ThreadLocalRandom.current().nextLong(40_000));
                                return 1;
                            }))
                            .doOnNext(value -> values.incrementAndGet())
                            .doOnCancel(rejected::incrementAndGet)
                            .subscribe(caller);
                }));
        assertThat(values.get()).as("some committed").isGreaterThan(ROUNDS / 50);
        assertThat(rejected.get()).as("some cancelled").isGreaterThan(ROUNDS / 50);
    }

    @Test
    void timeoutRacesGrant_eachCallIsToldOneOfTheTwo() {
        AtomicInteger values = new AtomicInteger();
        AtomicInteger timeouts = new AtomicInteger();
        // two lanes a key: one holds for about as long as the other waits
        Aim aim = new Aim();
        rounds(4, (key, round) -> {
            LockKey shared = LockKey.of(key.value() / 2);
            return client.exclusive(shared)
                    .waitAtMost(Duration.ofMillis(2))
                    .guard(Mono.delay(Duration.ofNanos(aim.next())))
                    .doOnNext(value -> {
                        values.incrementAndGet();
                        aim.wasEarly();
                    })
                    .onErrorResume(LockTimeoutException.class, timeout -> {
                        timeouts.incrementAndGet();
                        aim.wasLate();
                        return Mono.empty();
                    });
        });
        assertThat(values.get() + timeouts.get()).isEqualTo(ROUNDS);
        assertThat(values.get()).isGreaterThan(ROUNDS / 50);
        assertThat(timeouts.get()).isGreaterThan(ROUNDS / 50);
    }

    /** Says when it has ended or was cancelled, whichever comes first. */
    private static final class Canceller extends BaseSubscriber<Object> {

        private final Runnable end;

        Canceller(Runnable end) {
            this.end = end;
        }

        @Override
        protected void hookOnSubscribe(Subscription subscription) {
            requestUnbounded();
        }

        @Override
        protected void hookFinally(SignalType type) {
            end.run();
        }
    }
}
