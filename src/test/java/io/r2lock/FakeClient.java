package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;
import java.util.function.IntFunction;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.test.scheduler.VirtualTimeScheduler;

/** A client of session scope over {@link FakeSession}s, in a time that stands still unless the test moves it. */
final class FakeClient {

    static final LockKey KEY = LockKey.of(1);
    private static final Duration PATIENCE = Duration.ofSeconds(20);

    final VirtualTimeScheduler clock = new TestClock();

    private final VirtualTimeScheduler noHeartbeat = VirtualTimeScheduler.create();

    /** The sessions that were opened, oldest first. */
    final Queue<FakeSession> sessions = new ConcurrentLinkedQueue<>();

    final DefaultAdvisoryLocks locks;

    /** Whether sessions that are opened from now on answer at once. */
    volatile boolean answersAtOnce = true;

    /** Why no session can be opened from now on; told in {@link #refusedAt}. */
    volatile @Nullable RuntimeException refusal;

    /** When, in milliseconds of the clock. */
    final List<Long> refusedAt = new CopyOnWriteArrayList<>();

    FakeClient() {
        this(1);
    }

    FakeClient(int sessionConnections) {
        this(generation -> Mono.error(new IllegalStateException("no server")), sessionConnections);
    }

    FakeClient(IntFunction<Mono<LockConnection>> waiting) {
        this(waiting, 1);
    }

    FakeClient(@Nullable Scheduler workScheduler, @Nullable AmbientTransaction ambient) {
        this(generation -> Mono.error(new IllegalStateException("no server")), 1, workScheduler, ambient);
    }

    private FakeClient(IntFunction<Mono<LockConnection>> waiting, int sessionConnections) {
        this(waiting, sessionConnections, null, null);
    }

    /** {@code waiting} opens the connections that are waited on. */
    private FakeClient(
            IntFunction<Mono<LockConnection>> waiting,
            int sessionConnections,
            @Nullable Scheduler workScheduler,
            @Nullable AmbientTransaction ambient) {
        locks = new DefaultAdvisoryLocks(
                FakeConnection.source(
                        waiting,
                        () -> Mono.fromSupplier(() -> {
                            RuntimeException refused = refusal;
                            if (refused != null) {
                                refusedAt.add(clock.now(TimeUnit.MILLISECONDS));
                                throw refused;
                            }
                            FakeSession session = new FakeSession();
                            if (answersAtOnce) {
                                session.answersAtOnce();
                            }
                            sessions.add(session);
                            return session.wire();
                        })),
                FakeConnection.with(
                        FakeConnection.options(clock, noHeartbeat, 2, sessionConnections), workScheduler, ambient));
    }

    SessionSlot slot() {
        return locks.sessions().slot(KEY);
    }

    /** The only session that is open; opens it if there is none. */
    FakeSession open() {
        slot().opened().block(PATIENCE);
        return newest();
    }

    FakeSession newest() {
        return sessions.stream().reduce((older, newer) -> newer).orElseThrow();
    }

    FakeCaller acquire() {
        return acquire(locks.exclusive(KEY));
    }

    FakeCaller acquire(LockRequest request) {
        FakeCaller caller = new FakeCaller();
        request.inSession().acquire().subscribe(caller);
        return caller;
    }

    /** As {@link Await}, for what takes microseconds, thousands of times. */
    static void until(String awaited, BooleanSupplier condition) {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() - deadline > 0) {
                throw new AssertionError("not within " + PATIENCE + ": " + awaited);
            }
            LockSupport.parkNanos(10_000);
        }
    }

    /** Nothing is held or waited for, neither here nor on the newest server; forgets what came before. */
    void assertRest() {
        until("rest", () -> locks.live() == 0 && locks.gates().size() == 0);
        assertThat(locks.waiting()).isZero();
        assertThat(locks.sessions().held()).isZero();
        assertThat(locks.sessions().waiting().acquired()).isZero();
        FakeSession last = newest();
        if (last.closes.get() == 0) {
            assertThat(last.held()).isEmpty();
        }
        last.messages.clear();
        sessions.removeIf(session -> session != last);
    }

    void close() {
        Objects.requireNonNull(locks.close().then(Mono.just(true)).block(PATIENCE));
        clock.dispose();
        noHeartbeat.dispose();
    }

    /** Lets the grace of {@code close()} go by. */
    void graceIsOver() {
        clock.advanceTimeBy(Duration.ofSeconds(2));
    }
}
