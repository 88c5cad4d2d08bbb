package io.r2lock.bench;

import java.lang.management.ManagementFactory;
import java.lang.management.MemoryMXBean;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.LongAdder;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;

/** Callers that queue for one key which is held: what each of them keeps on the heap, and which connections they open. */
final class Waiters {

    private static final long KEY = 43;
    private static final MemoryMXBean MEMORY = ManagementFactory.getMemoryMXBean();

    private final Server server;
    private final LibraryContender contender;
    private final Disposable[] waiters;
    private final LongAdder signals = new LongAdder();

    Waiters(Server server, LibraryContender contender, int count) {
        this.server = server;
        this.contender = contender;
        this.waiters = new Disposable[count];
    }

    /** @param connections beside the holder's */
    record Cost(double bytes, double connections) {}

    /** The array that keeps the callers' subscriptions is there before; a call, its publisher and its subscriber count. */
    Cost measure() throws InterruptedException {
        CountDownLatch held = new CountDownLatch(1);
        Disposable holder = contender
                .guard(KEY, Mono.never().doOnSubscribe(subscription -> held.countDown()))
                .subscribe();
        if (!held.await(30, TimeUnit.SECONDS)) {
            throw new IllegalStateException("the key could not be had");
        }
        int connections = contender.connections(server);
        long before = used();
        for (int i = 0; i < waiters.length; i++) {
            waiters[i] = contender.cycle(KEY).subscribe(one -> signals.increment(), error -> signals.increment());
        }
        long after = used();
        Cost cost = new Cost((after - before) / (double) waiters.length, contender.connections(server) - connections);
        if (signals.sum() != 0) {
            throw new IllegalStateException(signals.sum() + " callers did not wait");
        }
        for (Disposable waiter : waiters) {
            waiter.dispose();
        }
        holder.dispose();
        return cost;
    }

    /** Collected until it says the same twice, near enough: references and finalizers are let go one collection later. */
    private static long used() {
        long last = Long.MAX_VALUE;
        for (int i = 0; i < 10; i++) {
            System.gc();
            long now = MEMORY.getHeapMemoryUsage().getUsed();
            if (Math.abs(last - now) < 16_384) {
                return now;
            }
            last = now;
        }
        return last;
    }
}
