package io.r2lock;

import java.util.List;
import java.util.function.BiFunction;
import org.jspecify.annotations.Nullable;

/**
 * The way of one request through the gates of its keys, one after the other in canonical order.
 *
 * <p>The waiters exist from the start, so that {@link #leave}, from whatever thread, finds them all: one that was not entered
 * yet never will be, and the way ends there.
 */
final class GatePass {

    private final KeyGates gates;
    private final Waiter[] waiters;
    private final Runnable passed;
    private final @Nullable Turns turns;

    /** Written by whoever enters the gates: one thread at a time, each hands over through a gate. */
    private int inside;

    /** What the way through the turns of siblings needs beside: who goes it, and what to do if it would close a cycle. */
    private record Turns(TurnWaits waits, TurnWaits.Member member, Runnable closesCycle) {}

    private <K> GatePass(
            KeyGates gates,
            List<K> keys,
            BiFunction<K, Waiter.Turn, Waiter> waiter,
            Runnable passed,
            @Nullable Turns turns) {
        this.gates = gates;
        this.passed = passed;
        this.turns = turns;
        this.waiters = new Waiter[keys.size()];
        for (int i = 0; i < waiters.length; i++) {
            waiters[i] = waiter.apply(keys.get(i), this::turn);
        }
    }

    /** For keys that the server is asked for afterwards. */
    static GatePass forServer(KeyGates gates, List<LockKey> keys, LockSpec spec, Runnable passed) {
        // a reader that tries, or that waits for other keys too, must not keep the other readers out meanwhile
        boolean waits = !spec.noWait() && keys.size() == 1;
        LockMode mode = spec.mode();
        BiFunction<LockKey, Waiter.Turn, Waiter> waiter = (key, turn) -> {
            if (!waits) {
                return Waiter.forTurn(key, mode, turn);
            }
            return spec.polls() ? Waiter.forPolling(key, mode, turn) : Waiter.forServer(key, mode, turn);
        };
        return new GatePass(gates, keys, waiter, passed, null);
    }

    /** For session locks; {@code queues}: each gate is waited for. */
    static GatePass forSession(KeyGates gates, LockSpec spec, boolean queues, Runnable passed) {
        List<LockKey> keys = spec.keys();
        boolean alone = keys.size() == 1;
        LockMode mode = spec.mode();
        // who still needs an earlier key must not have a later one meanwhile: two processes would wait for each other
        Waiter.Heir heir = alone ? Waiter.Heir.SESSION : Waiter.Heir.NOBODY;
        return new GatePass(
                gates,
                keys,
                (LockKey key, Waiter.Turn turn) -> Waiter.forSession(key, mode, queues && alone, heir, turn),
                passed,
                null);
    }

    /** For the turns of siblings, which this process alone decides; {@code closesCycle} runs instead of waiting for ever. */
    static <K> GatePass forTurns(
            TurnWaits waits, List<K> keys, Acquire request, Runnable passed, Runnable closesCycle) {
        Turns turns = new Turns(waits, new TurnWaits.Member(request), closesCycle);
        LockMode mode = request.spec.mode();
        return new GatePass(waits.gates(), keys, (key, turn) -> Waiter.forTurn(key, mode, turn), passed, turns);
    }

    /** Waits at each gate in turn; {@code passed} runs once all are entered. */
    void queue() {
        while (inside < waiters.length) {
            if (!enter(waiters[inside])) {
                return;
            }
            inside++;
        }
        passed.run();
    }

    private boolean enter(Waiter waiter) {
        if (turns == null) {
            return gates.enter(waiter);
        }
        TurnWaits.Entry entry = turns.waits.enter(turns.member, waiter);
        if (entry == TurnWaits.Entry.CLOSES_CYCLE) {
            turns.closesCycle.run();
        }
        return entry == TurnWaits.Entry.INSIDE;
    }

    private boolean tryEnter(Waiter waiter) {
        return turns == null ? gates.tryEnter(waiter) : turns.waits.tryEnter(turns.member, waiter);
    }

    private void turn(Waiter waiter) {
        inside++;
        queue();
    }

    /** Enters all gates at once, or none. */
    boolean tryAll() {
        boolean all = tryEvery();
        if (!all) {
            leave();
        }
        return all;
    }

    /** Enters the gates at once, up to the first that is not free; whether there was none. */
    boolean tryEvery() {
        for (Waiter waiter : waiters) {
            if (!tryEnter(waiter)) {
                return false;
            }
        }
        return true;
    }

    /** Enters those gates that are free. */
    void tryEach() {
        for (Waiter waiter : waiters) {
            gates.tryEnter(waiter);
        }
    }

    /** Of the keys of the waiters, the one whose gate is queued at; only that can be told while the way goes on. */
    List<LockKey> queued(List<LockKey> keys) {
        if (waiters.length == 1) {
            return keys;
        }
        for (int i = 0; i < waiters.length; i++) {
            if (gates.isQueued(waiters[i])) {
                return List.of(keys.get(i));
            }
        }
        return List.of();
    }

    /** Whether somebody inside holds the one shared lock that is asked for. */
    boolean isFollower() {
        return waiters.length == 1 && waiters[0].follower;
    }

    /** The server has granted the locks. */
    void prove() {
        for (Waiter waiter : waiters) {
            gates.prove(waiter);
        }
    }

    Waiter waiter(int index) {
        return waiters[index];
    }

    /** The server has refused a follower: back to the front of the queue. */
    void refuse() {
        inside = 0;
        gates.refuse(waiters[0]);
    }

    /** Idempotent. */
    void leave() {
        if (turns != null) {
            turns.waits.leave(turns.member);
        }
        for (Waiter waiter : waiters) {
            gates.leave(waiter);
        }
    }
}
