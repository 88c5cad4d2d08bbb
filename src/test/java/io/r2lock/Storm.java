package io.r2lock;

import java.util.Map;
import java.util.Queue;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Publisher;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.scheduler.Scheduler;

/** Many calls at once, most of them cancelled; counts what the cancels met. */
final class Storm {

    /** What the inner work fails with, on purpose. */
    static final class Planted extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Planted() {
            super("planted", null, false, false);
        }
    }

    private static final Logger LOG = LoggerFactory.getLogger(Storm.class);

    private final Scheduler canceller;
    private final int atOnce;
    private final Semaphore places;
    private final AtomicInteger calls = new AtomicInteger();
    private final Map<String, AtomicInteger> met = new ConcurrentHashMap<>();
    private final Map<String, AtomicInteger> outcomes = new ConcurrentHashMap<>();
    private final Queue<Throwable> unexpected = new ConcurrentLinkedQueue<>();
    private volatile UnaryOperator<String> names = phase -> phase;

    Storm(Scheduler canceller, int atOnce) {
        this.canceller = canceller;
        this.atOnce = atOnce;
        this.places = new Semaphore(atOnce);
    }

    /** How the phases of a guard are called in the scenario that begins: the scenario knows what they mean in it. */
    void scenario(UnaryOperator<String> phaseNames) {
        awaitAll();
        LOG.info("{} calls so far", calls);
        names = phaseNames;
    }

    /** Subscribes once there is a place. */
    StormCall call(Function<StormCall, Publisher<?>> publisher) {
        acquire(1);
        calls.incrementAndGet();
        StormCall call = new StormCall(this, canceller);
        call.subscribeTo(publisher.apply(call));
        return call;
    }

    /** Waits until every call has ended or was cancelled. */
    void awaitAll() {
        acquire(atOnce);
        places.release(atOnce);
    }

    private void acquire(int count) {
        try {
            if (!places.tryAcquire(count, 20, TimeUnit.SECONDS)) {
                throw new AssertionError("calls do not end: " + table());
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new AssertionError(e);
        }
    }

    void met(String phase) {
        count(met, names.apply(phase));
    }

    void ended(@Nullable Throwable error) {
        count(outcomes, error == null ? "value or cancel" : error.getClass().getSimpleName());
        boolean expected = error == null
                || error instanceof Planted
                || error instanceof LockTimeoutException
                || (error instanceof LockNotAvailableException busy && !busy.isKeyBusy())
                || error instanceof TimeoutException;
        if (!expected) {
            unexpected.add(error);
        }
        places.release();
    }

    private static void count(Map<String, AtomicInteger> counts, String what) {
        counts.computeIfAbsent(what, key -> new AtomicInteger()).incrementAndGet();
    }

    int calls() {
        return calls.get();
    }

    int met(Enum<?> state) {
        AtomicInteger count = met.get(state.name());
        return count == null ? 0 : count.get();
    }

    Queue<Throwable> unexpected() {
        return unexpected;
    }

    String table() {
        return calls + " calls\n  cancels met " + new TreeMap<>(met) + "\n  outcomes " + new TreeMap<>(outcomes);
    }
}
