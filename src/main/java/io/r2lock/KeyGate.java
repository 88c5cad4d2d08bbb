package io.r2lock;

import org.jspecify.annotations.Nullable;

/**
 * The queue of one key: first in, first out, exclusive or shared.
 *
 * <p>Invariants: exclusive is alone inside; nobody who may go in is left queued; a shared waiter does not overtake an exclusive
 * one; at most one unproven shared waiter is inside, unless they all went in while the last answer of the server was a grant.
 *
 * <p>A session lock that somebody inside was granted is the gate's {@link #baton}: an exclusive one is handed over to the next waiter
 * of its kind, a shared one is joined by those who come later, so often in a row as the limit allows. The last one to have it must
 * give it back on the server, and nobody goes in meanwhile. Shared ones who come when the limit is reached, or the lock is lost, go
 * in one by one to ask the server, where a writer may be queued; what that grants is the gate's baton then.
 *
 * <p>A waiter inside may also give its place to the next one itself, so often in a row as the limit allows ({@link #handOver}): what
 * they pass on with it is not the gate's.
 *
 * <p>Not safe by itself: {@link KeyGates} makes every call inside one atomic change of the key's entry.
 */
final class KeyGate {

    /** As the one who came first named it. */
    final Object key;

    private final WaiterQueue queue = new WaiterQueue();
    private boolean exclusiveInside;
    private int sharedInside;
    private int unproven;

    /** The server has granted the shared lock to somebody inside, and refused it to nobody since. */
    private boolean proven;

    /** The latest session lock of those inside. */
    private @Nullable Baton baton;

    /** How often in a row a place was handed over. */
    private int handOffs;

    private final int handOffLimit;

    /** The baton is being given back. */
    private boolean closed;

    KeyGate(Object key, int handOffLimit) {
        this.key = key;
        this.handOffLimit = handOffLimit;
    }

    boolean isIdle() {
        return queue.head() == null && !exclusiveInside && sharedInside == 0;
    }

    /** Goes in, or queues where {@code queues} allows it; says whether the waiter is inside now. */
    boolean enter(Waiter waiter, boolean queues) {
        if (waiter.place != Waiter.Place.NEW) {
            return false;
        }
        if (isNext(waiter) && admits(waiter)) {
            admit(waiter);
            return true;
        }
        if (queues) {
            queue.append(waiter);
        }
        return false;
    }

    /** Gives up the place, wherever it is; the answer is the chain of those who may go in now. */
    @Nullable
    Waiter leave(Waiter waiter) {
        Waiter.Place before = waiter.place;
        waiter.place = Waiter.Place.GONE;
        switch (before) {
            case QUEUED -> queue.unlink(waiter);
            case INSIDE -> exit(waiter);
            case NEW, GONE -> {
                return null;
            }
        }
        return admitFromHead();
    }

    /** The server has granted the waiter's lock, which is {@code granted} if it can be handed over: other shared ones may follow. */
    @Nullable
    Waiter prove(Waiter waiter, @Nullable Baton granted) {
        if (waiter.place != Waiter.Place.INSIDE) {
            return null;
        }
        if (granted != null && waiter.baton == null && !closed && !isJoinable()) {
            baton = granted;
            waiter.baton = granted;
            granted.sharers = 1;
        }
        if (!waiter.unproven) {
            return null;
        }
        waiter.unproven = false;
        unproven--;
        proven = true;
        return admitFromHead();
    }

    /** A shared waiter inside, which found that this process has its session lock already, joins that; {@code false} if it cannot. */
    boolean join(Waiter waiter) {
        Baton shared = baton;
        boolean free = waiter.place == Waiter.Place.INSIDE && waiter.baton == null;
        if (!free || closed || shared == null || !isJoinable()) {
            return false;
        }
        take(waiter, shared);
        return true;
    }

    /** What {@link #part} leaves to be done: {@code lock} must be given back; {@code pause}: others were kept out for long. */
    record Release(Baton lock, boolean pause) {}

    /**
     * Whoever has a session lock does not need it any more. It stays inside when there is something to release, which {@code release}
     * is told, and must {@link #leave} after that; else it is gone. {@code own} is a lock that the gate does not know.
     */
    @Nullable
    Waiter part(Waiter waiter, @Nullable Baton own, Release[] release) {
        Baton held = waiter.baton == null ? own : waiter.baton;
        if (held == null) {
            return leave(waiter);
        }
        if (waiter.place != Waiter.Place.INSIDE || waiter.baton == null) {
            release[0] = new Release(held, false);
            return null;
        }
        held.sharers--;
        if (held.sharers > 0) {
            waiter.place = Waiter.Place.GONE;
            exit(waiter);
            return admitFromHead();
        }
        if (held != baton) {
            release[0] = new Release(held, false);
            return null;
        }
        Waiter heir = queue.head();
        if (heir != null && isJoinable() && isHeir(heir, waiter)) {
            return pass(held, waiter, heir);
        }
        baton = null;
        closed = true;
        waiter.closes = true;
        release[0] = new Release(held, held.handOffs >= handOffLimit && heir != null);
        return null;
    }

    private Waiter pass(Baton held, Waiter from, Waiter heir) {
        from.place = Waiter.Place.GONE;
        exit(from);
        queue.unlink(heir);
        // whether it is lost was asked once: it must not be left with nobody
        admit(heir, held);
        heir.next = admitFromHead();
        return heir;
    }

    /**
     * An exclusive one inside leaves, and the next one has its place in the same step, with what is passed on, if it is an heir and
     * the limit allows; else nothing changes but that the one inside is told when only the limit was in the way.
     */
    @Nullable
    Waiter handOver(Waiter leaving, Object passedOn) {
        Waiter heir = queue.head();
        boolean alone = leaving.place == Waiter.Place.INSIDE && leaving.mode == LockMode.EXCLUSIVE;
        if (!alone || heir == null || heir.heir != Waiter.Heir.TRANSACTION) {
            return null;
        }
        int before = leaving.inherited == null ? 0 : handOffs;
        if (before >= handOffLimit) {
            leaving.rests = true;
            return null;
        }
        handOffs = before + 1;
        leaving.place = Waiter.Place.GONE;
        exit(leaving);
        queue.unlink(heir);
        admit(heir);
        heir.inherited = passedOn;
        return heir;
    }

    private boolean isHeir(Waiter next, Waiter of) {
        boolean alone = of.mode == LockMode.EXCLUSIVE || sharedInside == 1;
        return alone && next.heir == Waiter.Heir.SESSION && next.mode == of.mode;
    }

    /** Whether one more may have the baton without asking the server. */
    private boolean isJoinable() {
        return baton != null && baton.handOffs < handOffLimit && baton.isGood();
    }

    private static void take(Waiter waiter, Baton shared) {
        waiter.baton = shared;
        shared.sharers++;
        shared.handOffs++;
    }

    /** The server has refused a follower: it goes back to the front, and the next one in waits there for all. */
    @Nullable
    Waiter refuse(Waiter waiter) {
        if (waiter.place != Waiter.Place.INSIDE) {
            return null;
        }
        exit(waiter);
        proven = false;
        queue.prepend(waiter);
        return admitFromHead();
    }

    /** Nobody is queued whom it would overtake: pathfinders queue for each other only, not for what they look for. */
    private boolean isNext(Waiter waiter) {
        boolean looksForNothing = waiter.mode == LockMode.SHARED && !waiter.pathfinder;
        return looksForNothing ? !queue.hasExclusive() : queue.head() == null;
    }

    private boolean admits(Waiter waiter) {
        if (exclusiveInside || closed) {
            return false;
        }
        if (waiter.mode == LockMode.EXCLUSIVE) {
            return sharedInside == 0;
        }
        if (!waiter.pathfinder || unproven == 0) {
            return true;
        }
        // what a transaction of this process has shows nothing of what a session would get
        return waiter.heir == Waiter.Heir.SESSION ? isJoinable() : proven;
    }

    private void admit(Waiter waiter) {
        boolean joins = waiter.mode == LockMode.SHARED && waiter.heir == Waiter.Heir.SESSION && isJoinable();
        admit(waiter, joins ? baton : null);
    }

    private void admit(Waiter waiter, @Nullable Baton taken) {
        waiter.place = Waiter.Place.INSIDE;
        if (taken != null) {
            take(waiter, taken);
        }
        if (waiter.mode == LockMode.EXCLUSIVE) {
            exclusiveInside = true;
            return;
        }
        sharedInside++;
        proven |= taken != null;
        waiter.follower = proven;
        if (waiter.pathfinder && taken == null) {
            waiter.unproven = true;
            unproven++;
        }
    }

    private void exit(Waiter waiter) {
        waiter.baton = null;
        if (waiter.closes) {
            waiter.closes = false;
            closed = false;
        }
        if (waiter.mode == LockMode.EXCLUSIVE) {
            exclusiveInside = false;
            return;
        }
        sharedInside--;
        if (waiter.unproven) {
            waiter.unproven = false;
            unproven--;
        }
        if (sharedInside == 0) {
            proven = false;
        }
    }

    private @Nullable Waiter admitFromHead() {
        Waiter first = null;
        Waiter last = null;
        for (Waiter waiter = queue.head(); waiter != null && admits(waiter); waiter = queue.head()) {
            queue.unlink(waiter);
            admit(waiter);
            if (last == null) {
                first = waiter;
            } else {
                last.next = waiter;
            }
            last = waiter;
        }
        return first;
    }
}
