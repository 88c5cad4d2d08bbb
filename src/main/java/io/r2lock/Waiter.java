package io.r2lock;

import org.jspecify.annotations.Nullable;

/**
 * One caller's place at one {@link KeyGate}.
 *
 * <pre>
 *   NEW ──enter──▶ QUEUED ──admitted──▶ INSIDE ──leave──▶ GONE
 *    │                └───────leave──────────────────────▶ ▲
 *    └────────────────────leave──────────────────────────▶ │
 * </pre>
 *
 * <p>Every field that changes belongs to the gate and is written only inside {@link KeyGates}' change of that gate; whoever is told
 * the turn, by the thread that made the change, may read what it brought.
 * {@code GONE} is final: a waiter that left before it entered never enters.
 */
final class Waiter {

    enum Place {
        NEW,
        QUEUED,
        INSIDE,
        GONE
    }

    /** Is told that a waiter, which had to queue, may go in. */
    @FunctionalInterface
    interface Turn {
        void come(Waiter waiter);
    }

    /** From whom a waiter can take over what it would ask the server for. */
    enum Heir {
        NOBODY,
        SESSION,
        /** By {@link KeyGate#handOver}, which gives it the place and what belongs to that. */
        TRANSACTION
    }

    final Object key;
    final LockMode mode;
    final Heir heir;
    final Turn turn;

    /**
     * A pathfinder among shared waiters goes in alone until the server has granted its lock, so that many of them waiting for
     * another process cost one connection and not one each.
     */
    final boolean pathfinder;

    Place place = Place.NEW;
    boolean unproven;

    /** Went in while somebody inside held the shared lock: it may try for the lock, and need not wait for it. */
    boolean follower;

    /** What it holds, where the gate knows of it: granted to itself, taken over, or shared. */
    @Nullable
    Baton baton;

    /** What {@link KeyGate#handOver} gave it: set once, before its turn is told, and kept whatever comes then. */
    @Nullable
    Object inherited;

    /** {@link KeyGate#handOver} found that the next one could have had its place, but for the limit. */
    boolean rests;

    /** It is giving back for all: the gate is closed until it leaves. */
    boolean closes;

    @Nullable
    Waiter previous;

    @Nullable
    Waiter next;

    private Waiter(Object key, LockMode mode, Heir heir, boolean pathfinder, Turn turn) {
        this.key = key;
        this.mode = mode;
        this.heir = heir;
        this.pathfinder = pathfinder;
        this.turn = turn;
    }

    /** For a key that the server is waited for once the gate is passed; an exclusive one may take over a place there. */
    static Waiter forServer(LockKey key, LockMode mode, Turn turn) {
        boolean exclusive = mode == LockMode.EXCLUSIVE;
        return new Waiter(key, mode, exclusive ? Heir.TRANSACTION : Heir.NOBODY, !exclusive, turn);
    }

    /** As {@link #forServer}, for one that asks the server again and again. */
    static Waiter forPolling(LockKey key, LockMode mode, Turn turn) {
        return new Waiter(key, mode, Heir.NOBODY, mode == LockMode.SHARED, turn);
    }

    /** For something that this process alone decides, or that the server is not waited for. */
    static Waiter forTurn(Object key, LockMode mode, Turn turn) {
        return new Waiter(key, mode, Heir.NOBODY, false, turn);
    }

    /** For a session lock; {@code waits}: for this key alone, on the server once the gate is passed. */
    static Waiter forSession(LockKey key, LockMode mode, boolean waits, Heir heir, Turn turn) {
        return new Waiter(key, mode, heir, waits && mode == LockMode.SHARED, turn);
    }
}
