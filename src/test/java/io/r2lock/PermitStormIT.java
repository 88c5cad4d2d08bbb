package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.reactivestreams.Publisher;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/** Thousands of calls for few permits, cancelled after 0 to 2 ms in whatever state they are: nothing outlives them. */
class PermitStormIT {

    private static final Logger LOG = LoggerFactory.getLogger(PermitStormIT.class);
    private static final int CALLS = Boolean.getBoolean("long") ? 50_000 : 4_000;
    private static final int PERMITS = 2;
    private static final int KEYS = 2;

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private final Scheduler canceller = Schedulers.newParallel("canceller", 2);
    private final Storm storm = new Storm(canceller, 32);
    private final List<AtomicInteger> inside = List.of(new AtomicInteger(), new AtomicInteger());
    private final AtomicInteger most = new AtomicInteger();

    @AfterEach
    void dispose() {
        canceller.dispose();
    }

    /**
     * Counts itself while it runs: from a signal on, because a subscription on one thread and a cancel on another may cross, until it
     * ends or is cancelled, which is before its permit can be anybody else's.
     */
    private Mono<Long> work(int key) {
        Duration half = Duration.ofNanos(ThreadLocalRandom.current().nextInt(500_000));
        return Mono.defer(() -> {
            AtomicInteger counted = inside.get(key);
            AtomicReference<Boolean> in = new AtomicReference<>();
            Runnable enter = () -> {
                if (in.compareAndSet(null, true)) {
                    most.accumulateAndGet(counted.incrementAndGet(), Math::max);
                }
            };
            Runnable leave = () -> counted.addAndGet(Boolean.TRUE.equals(in.getAndSet(false)) ? -1 : 0);
            return Mono.delay(half)
                    .doOnNext(started -> enter.run())
                    .then(Mono.delay(half))
                    .doOnTerminate(leave)
                    .doOnCancel(leave);
        });
    }

    private Publisher<?> call(DefaultAdvisoryLocks client, int kind) {
        int key = ThreadLocalRandom.current().nextInt(KEYS);
        LockRequest request = client.permit(LockKey.named("storm", String.valueOf(key)), PERMITS);
        Mono<Long> work = work(key);
        return switch (kind) {
            case 0 -> request.guard(work);
            case 1 -> request.waitAtMost(Duration.ofMillis(1)).guard(work);
            case 2 -> request.skipIfBusy().guard(work);
            case 3 -> Mono.usingWhen(request.acquire(), hold -> work, HeldLock::release);
            case 4 -> request.guard(work.then(Mono.error(Storm.Planted::new)));
            case 5 ->
                request.guardMany(hold -> work.flux().concatWith(Flux.never())).take(1);
            case 6 ->
                client.exclusive(LockKey.of(ThreadLocalRandom.current().nextInt(8)))
                        .inSession()
                        .guard(request.waitAtMost(Duration.ofMillis(2)).guard(work));
            default -> request.guard(work).timeout(Duration.ofMillis(1));
        };
    }

    @Test
    void nothingOutlivesACancelledCall() {
        List<DefaultAdvisoryLocks> processes = List.of(
                clients.open(server, builder -> builder.sessionConnections(2).handOffLimit(4)), clients.open(server));
        for (int i = 0; i < CALLS; i++) {
            DefaultAdvisoryLocks client = processes.get(i % 2);
            int kind = ThreadLocalRandom.current().nextInt(8);
            StormCall call = storm.call(self -> call(client, kind));
            if (ThreadLocalRandom.current().nextInt(4) != 0) {
                call.cancelSoon();
            }
        }
        storm.awaitAll();
        LOG.info("{}\n  at most {} at once", storm.table(), most);
        residue.check();
        assertThat(storm.unexpected()).isEmpty();
        assertThat(most.get()).isEqualTo(PERMITS);
        assertThat(inside).allSatisfy(left -> assertThat(left).hasValue(0));
        for (DefaultAdvisoryLocks client : processes) {
            assertThat(client.live()).isZero();
            assertThat(client.waiting()).isZero();
        }
    }
}
