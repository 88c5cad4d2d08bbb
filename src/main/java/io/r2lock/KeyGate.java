package io.r2lock;

import org.jspecify.annotations.Nullable;

/**
 * The queue of one key: first in, first out, exclusive or shared.
 *
 * <p>Invariants: exclusive is alone inside; nobody who may go in is left queued; a shared waiter does not overtake an exclusive
 * one; at most one unproven shared waiter is inside, unless they all went in while the last answer of the server was a grant.
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

    /** The server has granted the waiter's lock: other shared ones may follow. */
    @Nullable
    Waiter prove(Waiter waiter) {
        if (waiter.place != Waiter.Place.INSIDE || !waiter.unproven) {
            return null;
        }
        waiter.unproven = false;
        unproven--;
        proven = true;
        return admitFromHead();
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
        if (exclusiveInside) {
            return false;
        }
        if (waiter.mode == LockMode.EXCLUSIVE) {
            return sharedInside == 0;
        }
        return !waiter.pathfinder || proven || unproven == 0;
    }

    private void admit(Waiter waiter) {
        waiter.place = Waiter.Place.INSIDE;
        if (waiter.mode == LockMode.EXCLUSIVE) {
            exclusiveInside = true;
            return;
        }
        sharedInside++;
        waiter.follower = proven;
        if (waiter.pathfinder) {
            waiter.unproven = true;
            unproven++;
        }
    }

    private void exit(Waiter waiter) {
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
