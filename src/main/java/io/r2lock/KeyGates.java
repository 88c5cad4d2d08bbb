package io.r2lock;

import java.util.ArrayDeque;
import java.util.Queue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.RejectedExecutionException;
import java.util.function.BiFunction;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Operators;
import reactor.core.scheduler.Schedulers;
import reactor.util.context.Context;

/**
 * The gates of all keys that somebody of this process holds or waits for; knows no SQL.
 *
 * <p>A gate is changed only inside {@link ConcurrentHashMap#compute} of its key, which is atomic for the key: so a gate needs
 * no lock of its own, a grant and a cancel that meet are decided by whichever change comes first, and a gate that became idle
 * is gone in that same step, so that a million distinct keys leave nothing behind. Turns are told after the change.
 */
final class KeyGates {

    /** The turns that this thread is about to tell; set while it tells some. Holds nothing beyond that. */
    private static final ThreadLocal<@Nullable Queue<Waiter>> TELLING = new ThreadLocal<>();

    private final ConcurrentHashMap<Object, KeyGate> gates = new ConcurrentHashMap<>();
    private final int handOffLimit;
    private final @Nullable Collisions collisions;

    /** Where no lock is handed over. */
    KeyGates() {
        this(0);
    }

    KeyGates(int handOffLimit) {
        this(handOffLimit, null);
    }

    /** {@code collisions} is told of keys that meet at a gate and are not the same object. */
    KeyGates(int handOffLimit, @Nullable Collisions collisions) {
        this.handOffLimit = handOffLimit;
        this.collisions = collisions;
    }

    /** Goes in at once, which the answer tells, or queues; then {@link Waiter#turn} is told, once. */
    boolean enter(Waiter waiter) {
        return enter(waiter, true);
    }

    /** Goes in at once or not at all. */
    boolean tryEnter(Waiter waiter) {
        return enter(waiter, false);
    }

    private boolean enter(Waiter waiter, boolean queue) {
        boolean[] inside = new boolean[1];
        KeyGate entered = gates.compute(waiter.key, (key, present) -> {
            KeyGate gate = present == null ? new KeyGate(key, handOffLimit) : present;
            inside[0] = gate.enter(waiter, queue);
            return gate.isIdle() ? null : gate;
        });
        if (collisions != null
                && entered != null
                && entered.key != waiter.key
                && entered.key instanceof LockKey known
                && waiter.key instanceof LockKey asked) {
            collisions.met(known, asked);
        }
        return inside[0];
    }

    /** Whether the waiter is in the queue now. */
    boolean isQueued(Waiter waiter) {
        boolean[] queued = new boolean[1];
        gates.computeIfPresent(waiter.key, (key, gate) -> {
            queued[0] = waiter.place == Waiter.Place.QUEUED;
            return gate;
        });
        return queued[0];
    }

    /** Gives up a place, queued or inside; idempotent, and a waiter that has not entered yet never will. */
    void leave(Waiter waiter) {
        change(waiter, KeyGate::leave);
    }

    void prove(Waiter waiter) {
        if (waiter.pathfinder) {
            change(waiter, (gate, granted) -> gate.prove(granted, null));
        }
    }

    /** The server has granted a session lock, which is the gate's from now on, unless that has one. */
    void prove(Waiter waiter, Baton granted) {
        change(waiter, (gate, holder) -> gate.prove(holder, granted));
    }

    /** See {@link KeyGate#join}; the answer is what it shares now. */
    @Nullable
    Baton join(Waiter waiter) {
        change(waiter, (gate, late) -> {
            gate.join(late);
            return null;
        });
        return waiter.baton;
    }

    /** See {@link KeyGate#part}; the answer is what must be released, or null when the place is given up. */
    KeyGate.@Nullable Release part(Waiter waiter, @Nullable Baton own) {
        KeyGate.Release[] release = new KeyGate.Release[1];
        change(waiter, (gate, leaving) -> gate.part(leaving, own, release));
        return release[0];
    }

    void refuse(Waiter waiter) {
        change(waiter, KeyGate::refuse);
    }

    /** See {@link KeyGate#handOver}; the turn of the heir, if there is one, is to be told by {@link #tell}. */
    @Nullable
    Waiter handOver(Waiter leaving, Object passedOn) {
        Waiter[] heir = new Waiter[1];
        gates.computeIfPresent(leaving.key, (key, gate) -> {
            heir[0] = gate.handOver(leaving, passedOn);
            return gate;
        });
        return heir[0];
    }

    /**
     * Runs the body, and only then tells the turns that it has brought to others: but not where the body, which may run user code,
     * may block, and with it those turns.
     */
    static void turnsAfter(Runnable body) {
        if (TELLING.get() != null || !Schedulers.isInNonBlockingThread()) {
            body.run();
            return;
        }
        // mostly of none, or of one
        Queue<Waiter> queue = new ArrayDeque<>(1);
        TELLING.set(queue);
        try {
            body.run();
        } finally {
            tellAll(queue);
        }
    }

    /** A turn may run work that ends at once, which brings the next turn: one after the other, not one inside the other. */
    static void tell(@Nullable Waiter first) {
        if (first == null) {
            return;
        }
        Queue<Waiter> outer = TELLING.get();
        Queue<Waiter> queue = outer == null ? new ArrayDeque<>() : outer;
        for (Waiter next = first; next != null; ) {
            Waiter told = next;
            next = told.next;
            told.next = null;
            queue.add(told);
        }
        if (outer == null) {
            TELLING.set(queue);
            tellAll(queue);
        }
    }

    private static void tellAll(Queue<Waiter> queue) {
        try {
            for (Waiter told = queue.poll(); told != null; told = queue.poll()) {
                comes(told);
            }
        } finally {
            TELLING.remove();
        }
    }

    /** A turn that brings a lock runs the guarded work, which may block where that is allowed, and whoever tells it may too. */
    private static void comes(Waiter told) {
        if (told.baton == null || Schedulers.isInNonBlockingThread()) {
            come(told);
            return;
        }
        try {
            Schedulers.parallel().schedule(() -> come(told));
        } catch (RejectedExecutionException shutDown) {
            come(told);
        }
    }

    /** What a subscriber throws must not keep the others from their turns. */
    private static void come(Waiter told) {
        try {
            told.turn.come(told);
        } catch (Throwable thrown) {
            Operators.onErrorDropped(thrown, Context.empty());
        }
    }

    /** How many keys are held or waited for. */
    int size() {
        return gates.size();
    }

    private void change(Waiter waiter, BiFunction<KeyGate, Waiter, @Nullable Waiter> transition) {
        Waiter[] admitted = new Waiter[1];
        gates.compute(waiter.key, (key, present) -> {
            KeyGate gate = present == null ? new KeyGate(key, handOffLimit) : present;
            admitted[0] = transition.apply(gate, waiter);
            return gate.isIdle() ? null : gate;
        });
        tell(admitted[0]);
    }
}
