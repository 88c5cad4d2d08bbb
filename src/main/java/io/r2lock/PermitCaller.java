package io.r2lock;

import org.jspecify.annotations.Nullable;

/**
 * One caller's place at a {@link PermitGate}.
 *
 * <pre>
 *   NEW ──enter──▶ WAITING ──served──▶ INSIDE ──leave──▶ GONE, its slot being handed over
 *    │               │ │                 └────leave──▶ LEAVING ──given back──▶ GONE
 *    │               │ └──busy, failed──▶ GONE
 *    │               └──stop──▶ STOPPING ──no try on its behalf is left──▶ GONE
 *    └──stop──▶ GONE
 * </pre>
 *
 * <p>Every field that changes belongs to the gate and is read and written only inside {@link PermitGates}' change of that gate;
 * {@link #lock} is there to be read once the caller was told that it is served. {@code GONE} is final.
 */
class PermitCaller {

    enum Place {
        NEW,
        WAITING,
        STOPPING,
        INSIDE,
        LEAVING,
        GONE
    }

    /** Who asked. Told after the change of the gate; one of these but {@link #atServer}, and {@link #left} after a stop only. */
    interface Told {

        /** It is its turn, and the server is being asked. */
        void atServer();

        void served(SessionLock lock);

        /** For who does not wait: no slot is free. */
        void busy();

        /** The permits of the key are counted otherwise here now. */
        void differs(int permits);

        void failed(@Nullable Throwable error);

        /** Nothing is held on the server, nor will be, because of who stopped. */
        void left();
    }

    final LockKey key;
    final int permits;
    final boolean waits;

    /** Holds something already, and so does not queue behind those who do not. */
    final boolean nested;

    final Told told;

    /** How it is told: its turn among those of the {@link KeyGates}. */
    private final Waiter turn;

    private volatile Runnable telling = () -> {};

    Place place = Place.NEW;

    /** Was told that it is at the server. */
    boolean asks;

    /** Who does not wait, waits for the end of this round. */
    int round;

    /** A connection that was gone has been replaced once on its behalf. */
    boolean replaced;

    int slot;

    @Nullable
    SessionLock lock;

    /** How often in a row the slot was handed over without the server. */
    int handOffs;

    /** Others were kept from the slot for long, and have to have their chance. */
    boolean rests;

    PermitCaller(LockSpec spec, boolean nested, Told told) {
        this.key = spec.keys().get(0);
        this.permits = spec.permits();
        this.waits = !spec.noWait();
        this.nested = nested;
        this.told = told;
        this.turn = Waiter.forTurn(key, LockMode.EXCLUSIVE, come -> telling.run());
    }

    /** After the change of the gate; {@code granted} is what it is served with, if that is what it is told. */
    void tell(Runnable what, @Nullable SessionLock granted) {
        telling = what;
        turn.baton = granted;
        KeyGates.tell(turn);
    }
}
