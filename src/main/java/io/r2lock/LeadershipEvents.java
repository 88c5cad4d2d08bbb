package io.r2lock;

import java.time.Instant;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Sinks;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/**
 * Tells the events of the candidates of one election to whoever listens.
 *
 * <p>Candidates may tell at once, from any thread: one of them emits for all, in the order of their telling, so that every
 * subscriber sees the same order. Each subscriber has a buffer, and a thread, of its own.
 */
final class LeadershipEvents {

    static final int BUFFER = 1_024;

    private final LockKey key;
    private final Scheduler clock;
    private final Queue<LeadershipEvent> queue = new ConcurrentLinkedQueue<>();
    private final AtomicInteger toEmit = new AtomicInteger();
    // best effort: a subscriber without demand would miss events, and none is without, because of its buffer
    private final Sinks.Many<LeadershipEvent> sink = Sinks.many().multicast().directBestEffort();

    LeadershipEvents(LockKey key, Scheduler clock) {
        this.key = key;
        this.clock = clock;
    }

    Flux<LeadershipEvent> flux() {
        return sink.asFlux().onBackpressureBuffer(BUFFER).publishOn(Schedulers.parallel(), true, 1);
    }

    /** For who cannot fall behind. */
    Flux<LeadershipEvent> unbuffered() {
        return sink.asFlux();
    }

    void tell(LeadershipEvent.Kind kind, FencingToken term) {
        queue.add(new LeadershipEvent(kind, key, term, Instant.ofEpochMilli(clock.now(TimeUnit.MILLISECONDS))));
        if (toEmit.getAndIncrement() > 0) {
            return;
        }
        int emitted = 1;
        do {
            for (LeadershipEvent next = queue.poll(); next != null; next = queue.poll()) {
                // nobody may be listening
                sink.tryEmitNext(next);
            }
            emitted = toEmit.addAndGet(-emitted);
        } while (emitted != 0);
    }
}
