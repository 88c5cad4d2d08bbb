package io.r2lock;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Publisher;
import org.reactivestreams.Subscription;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Operators;
import reactor.core.publisher.Sinks;
import reactor.util.context.Context;

/**
 * One item of a {@link KeyedStream}: the subscriber of its guarded work, whose values it collects until the hold has ended.
 *
 * <pre>
 *   GIVEN ──the lock is granted──▶ WORKING ──the hold has ended──▶ told to the stream
 *     └──────────dropped──────────────┴──▶ DROPPED
 * </pre>
 *
 * <p>Whoever moves it away from {@code GIVEN} decides whether the work begins. What is not final and not volatile belongs to whoever
 * has the stream's drain.
 */
final class KeyedItem<R, V> implements CoreSubscriber<V> {

    private enum Phase {
        GIVEN,
        WORKING,
        DROPPED
    }

    final LockSpec spec;
    private final R given;
    private final KeyedStream<R, V> stream;
    private final AtomicReference<Phase> phase = new AtomicReference<>(Phase.GIVEN);

    /** Taken while one is added, so that adding and discarding never meet in the list; null while there are none. */
    private final AtomicReference<@Nullable List<V>> values = new AtomicReference<>();

    /** Those that wait for this one, at one key or more. */
    final List<KeyedItem<R, V>> followers = new ArrayList<>(1);

    int waitsFor;

    /** The stream has heard of it once; what it hears next is its end. */
    boolean known;

    /** It has ended while it still waited for others, which only one that {@link #queueBehind} another can. */
    boolean endedEarly;

    private @Nullable Guard<V> running;
    private List<V> taken = List.of();
    private int next;

    /** The one that it queues behind at the gate, and the sign that it has ended well; null where there is none, or not any more. */
    private volatile @Nullable KeyedItem<R, V> before;

    private volatile Sinks.@Nullable Empty<Void> turn;
    private volatile boolean succeeded;
    private volatile @Nullable Throwable error;

    KeyedItem(KeyedStream<R, V> stream, R given, LockSpec spec) {
        this.stream = stream;
        this.given = given;
        this.spec = spec;
    }

    /** Whether the gate alone decides who is next between two such items: each waits there until the one before has left. */
    boolean canQueueBehind(KeyedItem<R, V> other) {
        return isPatient(spec) && isPatient(other.spec) && spec.inSession() == other.spec.inSession();
    }

    private static boolean isPatient(LockSpec spec) {
        boolean waits = !spec.noWait() && spec.maxWait() == null;
        return waits && spec.keys().size() == 1 && spec.permits() == 0 && spec.mode() == LockMode.EXCLUSIVE;
    }

    boolean isSubscribed() {
        return running != null;
    }

    /** Asks for the lock. */
    void subscribe() {
        Guard<V> guard = stream.guard(this, hold -> granted());
        running = guard;
        guard.start();
    }

    /** Asks for the lock while the other one has it, or waits for it; the work begins after {@link #turnComes}. */
    void queueBehind(KeyedItem<R, V> other) {
        turn = Sinks.empty();
        before = other;
        subscribe();
    }

    /** The one before has ended well. */
    void turnComes() {
        before = null;
        Sinks.Empty<Void> waits = turn;
        if (waits != null) {
            waits.tryEmitEmpty();
            turn = null;
        }
    }

    /**
     * The gate may let it in before the stream has heard how the one before has ended: when that failed, or may still, nothing of
     * this one must be seen.
     */
    private Publisher<V> granted() {
        Sinks.Empty<Void> waits = turn;
        KeyedItem<R, V> other = before;
        return other == null || waits == null || other.succeeded
                ? begin()
                : waits.asMono().thenMany(Flux.defer(this::begin));
    }

    private Publisher<V> begin() {
        if (!phase.compareAndSet(Phase.GIVEN, Phase.WORKING)) {
            // whoever dropped it cancels this next
            return Flux.never();
        }
        return Objects.requireNonNull(stream.work(given), "work returned null");
    }

    /** The stream ends before it does, or before its values were taken. */
    void drop() {
        Phase last = phase.getAndSet(Phase.DROPPED);
        Guard<V> guard = running;
        if (guard != null && last == Phase.GIVEN) {
            guard.cancelUnbegun();
        } else if (guard != null) {
            guard.cancel();
        }
        if (last == Phase.GIVEN) {
            Operators.onDiscard(given, currentContext());
        }
        discard();
        while (hasNext()) {
            Operators.onDiscard(next(), currentContext());
        }
    }

    private void discard() {
        List<V> collected = values.getAndSet(null);
        if (collected != null) {
            Operators.onDiscardMultiple(collected, currentContext());
        }
    }

    @Override
    public Context currentContext() {
        return stream.currentContext();
    }

    @Override
    public void onSubscribe(Subscription given) {
        given.request(Long.MAX_VALUE);
    }

    @Override
    public void onNext(V value) {
        List<V> collected = values.getAndSet(null);
        if (collected == null) {
            collected = new ArrayList<>(1);
        }
        collected.add(value);
        values.set(collected);
        if (phase.get() == Phase.DROPPED) {
            discard();
        }
    }

    @Override
    public void onError(Throwable failure) {
        error = failure;
        stream.ended(this);
    }

    @Override
    public void onComplete() {
        // told before it is said: who is let in by that is told later
        stream.tell(this);
        succeeded = true;
        stream.drain();
    }

    @Nullable
    Throwable error() {
        return error;
    }

    /** It has ended: from now on its values can be taken. */
    void settle() {
        List<V> collected = values.getAndSet(null);
        if (collected != null) {
            taken = collected;
        }
    }

    boolean hasNext() {
        return next < taken.size();
    }

    V next() {
        return taken.get(next++);
    }
}
