package io.r2lock;

import org.jspecify.annotations.Nullable;

/**
 * The queue of one key: first in, first out, exclusive or shared.
 *
 * <p>Invariants: exclusive is alone inside; nobody who may go in is left queued; a shared waiter does not overtake an exclusive
 * one; at most one unproven shared waiter is inside, unless they all went in while the last answer of the server was a grant.
 *
 * <p>A session lock that somebody inside was granted is the gate's {@link #baton}: whoever leaves hands it over to the next waiter
 * of its kind, and shared ones that come later join it, so often in a row as the limit allows; the last one must give it back on
 * the server, and nobody goes in meanwhile.
 *
 * <p>A waiter inside may also give its place to the next one itself, so often in a row as the limit allows ({@link #handOver}): what
 * they pass on with it is not the gate's.
 *
 * <p>Not safe by itself: {@link KeyGates} makes every call inside one atomic change of the key's entry.
 */
final class KeyGate {

    private @Nullable Waiter head;
    private @Nullable Waiter tail;
    private boolean exclusiveInside;
    private int sharedInside;
    private int exclusiveQueued;
    private int unproven;

    /** The server has granted the shared lock to somebody inside, and refused it to nobody since. */
    private boolean proven;

    /** The session lock of those inside, who are {@link #sharers}. */
    private Waiter.@Nullable Baton baton;

    private int sharers;

    /** How often in a row the baton was taken over, or joined, without the server, or a place was handed over. */
    private int handOffs;

    private final int handOffLimit;

    /** The baton is being given back. */
    private boolean closed;

    KeyGate(int handOffLimit) {
        this.handOffLimit = handOffLimit;
    }

    boolean isIdle() {
        return head == null && !exclusiveInside && sharedInside == 0;
    }

    /** Goes in, or queues where {@code queue} allows it; says whether the waiter is inside now. */
    boolean enter(Waiter waiter, boolean queue) {
        if (waiter.place != Waiter.Place.NEW) {
            return false;
        }
        if (isNext(waiter) && admits(waiter)) {
            admit(waiter);
            return true;
        }
        if (queue) {
            append(waiter);
        }
        return false;
    }

    /** Gives up the place, wherever it is; the answer is the chain of those who may go in now. */
    @Nullable
    Waiter leave(Waiter waiter) {
        Waiter.Place before = waiter.place;
        waiter.place = Waiter.Place.GONE;
        switch (before) {
            case QUEUED -> unlink(waiter);
            case INSIDE -> exit(waiter);
            case NEW, GONE -> {
                return null;
            }
        }
        return admitFromHead();
    }

    /** The server has granted the waiter's lock, which is {@code granted} if it can be handed over: other shared ones may follow. */
    @Nullable
    Waiter prove(Waiter waiter, Waiter.@Nullable Baton granted) {
        if (waiter.place != Waiter.Place.INSIDE) {
            return null;
        }
        if (granted != null && baton == null && !closed) {
            baton = granted;
            waiter.baton = granted;
            sharers = 1;
            handOffs = 0;
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
        boolean free = waiter.place == Waiter.Place.INSIDE && waiter.baton == null;
        boolean can = free && baton != null && !closed && handOffs < handOffLimit;
        if (can) {
            takeBaton(waiter);
        }
        return can;
    }

    /** What {@link #part} leaves to be done: {@code lock} must be given back; {@code pause}: others were kept out for long. */
    record Release(Waiter.Baton lock, boolean pause) {}

    /**
     * Whoever has a session lock does not need it any more. It stays inside when there is something to release, which {@code release}
     * is told, and must {@link #leave} after that; else it is gone. {@code own} is a lock that the gate does not know.
     */
    @Nullable
    Waiter part(Waiter waiter, Waiter.@Nullable Baton own, Release[] release) {
        Waiter.Baton held = waiter.baton == null ? own : waiter.baton;
        if (held == null) {
            return leave(waiter);
        }
        if (waiter.place != Waiter.Place.INSIDE || held != baton) {
            release[0] = new Release(held, false);
            return null;
        }
        sharers--;
        if (sharers == 0 && !(held.isGood() && isHeir(head, waiter))) {
            baton = null;
            closed = true;
            waiter.closes = true;
            release[0] = new Release(held, handOffs >= handOffLimit && head != null);
            return null;
        }
        waiter.place = Waiter.Place.GONE;
        exit(waiter);
        return admitFromHead();
    }

    /**
     * An exclusive one inside leaves, and the next one has its place in the same step, with what is passed on, if it is an heir and
     * the limit allows; else nothing changes but that the one inside is told when only the limit was in the way.
     */
    @Nullable
    Waiter handOver(Waiter leaving, Waiter.Baton passedOn) {
        Waiter heir = head;
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
        unlink(heir);
        admit(heir);
        heir.inherited = passedOn;
        return heir;
    }

    private boolean isHeir(@Nullable Waiter next, Waiter of) {
        return next != null
                && next.heir == Waiter.Heir.SESSION
                && next.mode == of.mode
                && handOffs < handOffLimit
                && (of.mode == LockMode.EXCLUSIVE || sharedInside == 1);
    }

    private void takeBaton(Waiter waiter) {
        waiter.baton = baton;
        sharers++;
        handOffs++;
    }

    /** The server has refused a follower: it goes back to the front, and the next one in waits there for all. */
    @Nullable
    Waiter refuse(Waiter waiter) {
        if (waiter.place != Waiter.Place.INSIDE) {
            return null;
        }
        exit(waiter);
        proven = false;
        prepend(waiter);
        return admitFromHead();
    }

    /** Nobody is queued whom it would overtake: pathfinders queue for each other only, not for what they look for. */
    private boolean isNext(Waiter waiter) {
        boolean looksForNothing = waiter.mode == LockMode.SHARED && !waiter.pathfinder;
        return looksForNothing ? exclusiveQueued == 0 : head == null;
    }

    private boolean admits(Waiter waiter) {
        if (exclusiveInside || closed) {
            return false;
        }
        if (waiter.mode == LockMode.EXCLUSIVE) {
            return sharedInside == 0;
        }
        if (mayJoin(waiter)) {
            return handOffs < handOffLimit;
        }
        return !waiter.pathfinder || proven || unproven == 0;
    }

    private void admit(Waiter waiter) {
        waiter.place = Waiter.Place.INSIDE;
        boolean takesOver = mayJoin(waiter);
        if (takesOver) {
            takeBaton(waiter);
        }
        if (waiter.mode == LockMode.EXCLUSIVE) {
            exclusiveInside = true;
            return;
        }
        sharedInside++;
        proven |= takesOver;
        waiter.follower = proven;
        if (waiter.pathfinder && !takesOver) {
            waiter.unproven = true;
            unproven++;
        }
    }

    /** For an exclusive one: there is a baton only while it is handed over. */
    private boolean mayJoin(Waiter waiter) {
        return baton != null && waiter.heir == Waiter.Heir.SESSION;
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
        while (head != null && admits(head)) {
            Waiter waiter = head;
            unlink(waiter);
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

    private void append(Waiter waiter) {
        waiter.place = Waiter.Place.QUEUED;
        exclusiveQueued += waiter.mode == LockMode.EXCLUSIVE ? 1 : 0;
        waiter.previous = tail;
        if (tail == null) {
            head = waiter;
        } else {
            tail.next = waiter;
        }
        tail = waiter;
    }

    private void prepend(Waiter waiter) {
        waiter.place = Waiter.Place.QUEUED;
        waiter.next = head;
        if (head == null) {
            tail = waiter;
        } else {
            head.previous = waiter;
        }
        head = waiter;
    }

    private void unlink(Waiter waiter) {
        exclusiveQueued -= waiter.mode == LockMode.EXCLUSIVE ? 1 : 0;
        Waiter before = waiter.previous;
        Waiter after = waiter.next;
        if (before == null) {
            head = after;
        } else {
            before.next = after;
        }
        if (after == null) {
            tail = before;
        } else {
            after.previous = before;
        }
        waiter.previous = null;
        waiter.next = null;
    }
}
