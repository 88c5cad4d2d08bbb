package io.r2lock;

import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import org.reactivestreams.Subscription;
import reactor.core.publisher.BaseSubscriber;

/** Takes what it asked for, and counts signals that overlap. */
final class KeyedTaker extends BaseSubscriber<Integer> {
    final Queue<Integer> taken = new ConcurrentLinkedQueue<>();
    final AtomicInteger ends = new AtomicInteger();
    final AtomicInteger overlaps = new AtomicInteger();
    final AtomicInteger inside = new AtomicInteger();
    volatile Throwable error = new IllegalStateException("none");

    private void signal(Runnable body) {
        if (inside.getAndIncrement() != 0) {
            overlaps.incrementAndGet();
        }
        body.run();
        inside.decrementAndGet();
    }

    @Override
    protected void hookOnSubscribe(Subscription subscription) {
        // asks for nothing by itself
    }

    @Override
    protected void hookOnNext(Integer value) {
        signal(() -> taken.add(value));
    }

    @Override
    protected void hookOnComplete() {
        signal(ends::incrementAndGet);
    }

    @Override
    protected void hookOnError(Throwable thrown) {
        error = thrown;
        signal(ends::incrementAndGet);
    }
}
