package io.r2lock;

import org.jspecify.annotations.Nullable;

/** The waiters of one gate that are not inside, linked through themselves, so that one may leave from wherever it is. */
final class WaiterQueue {

    private @Nullable Waiter head;
    private @Nullable Waiter tail;
    private int exclusive;

    @Nullable
    Waiter head() {
        return head;
    }

    boolean hasExclusive() {
        return exclusive > 0;
    }

    void append(Waiter waiter) {
        queued(waiter);
        waiter.previous = tail;
        if (tail == null) {
            head = waiter;
        } else {
            tail.next = waiter;
        }
        tail = waiter;
    }

    void prepend(Waiter waiter) {
        queued(waiter);
        waiter.next = head;
        if (head == null) {
            tail = waiter;
        } else {
            head.previous = waiter;
        }
        head = waiter;
    }

    private void queued(Waiter waiter) {
        waiter.place = Waiter.Place.QUEUED;
        exclusive += waiter.mode == LockMode.EXCLUSIVE ? 1 : 0;
    }

    void unlink(Waiter waiter) {
        exclusive -= waiter.mode == LockMode.EXCLUSIVE ? 1 : 0;
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
