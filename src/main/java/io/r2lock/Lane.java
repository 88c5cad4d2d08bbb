package io.r2lock;

import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;
import reactor.core.scheduler.Scheduler;

/**
 * Who may send on the connection of one transaction: user statements side by side, or one section alone (the savepoint and
 * lock of a nested request, or the end of the transaction).
 *
 * <p>Alone, because a CancelRequest hits whatever the backend is doing: it may be sent for a nested lock only while nothing
 * else of this transaction is on the wire.
 *
 * <p>{@code used} is set before anybody enters, and the hold's state is checked after; the end of the hold sets the state and
 * then reads {@code used}. So a transaction that ran no statement of the user's ends without touching a queue.
 */
final class Lane {

    private final KeyGates gates = new KeyGates();
    private final Set<LaneTicket> statements = ConcurrentHashMap.newKeySet();
    private final Set<UnreadResult> unread = ConcurrentHashMap.newKeySet();
    private final Queue<LaneTicket> abandoned = new ConcurrentLinkedQueue<>();
    private final AtomicInteger freeing;
    private volatile boolean used;

    /** Where the end of the transaction stands, alone. */
    private volatile @Nullable Waiter last;

    Lane() {
        this(new AtomicInteger());
    }

    /** One of several in one transaction, which count {@link #freeing()} together. */
    Lane(AtomicInteger freeing) {
        this.freeing = freeing;
    }

    /** A place for a user statement, or for a section. */
    Waiter place(LockMode mode, Waiter.Turn turn) {
        return Waiter.forTurn(this, mode, turn);
    }

    /** Whether the place was entered at once; else its turn is told. */
    boolean enter(Waiter place) {
        used = true;
        return gates.enter(place);
    }

    void leave(Waiter place) {
        gates.leave(place);
    }

    /** A statement of the user's was sent that may have freed what was locked inside the transaction. */
    void mayHaveFreed() {
        freeing.incrementAndGet();
    }

    /** How many statements so far may have freed something; it may wrap around. */
    int freeing() {
        return freeing.get();
    }

    /** Waits for what is on the wire, alone, for a question in the middle of the transaction. */
    void section(Waiter alone, Runnable question) {
        // results that the work left unread would be waited for in vain
        unread.forEach(UnreadResult::drain);
        if (enter(alone)) {
            question.run();
        }
    }

    void runs(LaneTicket statement) {
        statements.add(statement);
    }

    void ran(LaneTicket statement) {
        statements.remove(statement);
    }

    void unread(UnreadResult result) {
        unread.add(result);
    }

    void read(UnreadResult result) {
        unread.remove(result);
    }

    /** Waits for what is on the wire, then runs the end of the transaction. */
    void close(LockConnection connection, Runnable end) {
        if (used) {
            connection.mustEndWithin(LockConnection.COMMIT_DEADLINE_SECONDS, () -> {});
        }
        finish(end);
    }

    /** Cancels what is on the wire, then runs the end of the transaction. */
    void cancelAndClose(LockConnection connection, Scheduler clock, Runnable end) {
        if (!used) {
            end.run();
            return;
        }
        unread.forEach(UnreadResult::drain);
        ServerCancel cancel = new ServerCancel(connection, clock, end);
        if (enterLast(turn -> cancel.answered())) {
            end.run();
            return;
        }
        abandon();
        cancel.sent();
        cancel.beginUnlessAnsweredSoon();
    }

    private void abandon() {
        for (LaneTicket statement : statements) {
            abandoned.add(statement);
            statement.abandon();
        }
    }

    /** Nobody reads on; what is on the wire is left to end by itself, on a connection that is somebody else's. */
    void desert() {
        if (used) {
            unread.forEach(UnreadResult::drain);
            abandon();
            ended();
        }
    }

    /** Waits for what is on the wire, if anything ever was. */
    void finish(Runnable end) {
        if (!used) {
            end.run();
            return;
        }
        unread.forEach(UnreadResult::drain);
        if (enterLast(turn -> end.run())) {
            end.run();
        }
    }

    private boolean enterLast(Waiter.Turn turn) {
        Waiter place = place(LockMode.EXCLUSIVE, turn);
        last = place;
        return enter(place);
    }

    /** The transaction has ended: a statement that came, or comes, after that is let in, and refused there. */
    void ended() {
        Waiter place = last;
        if (place != null) {
            leave(place);
        }
        abandoned.forEach(LaneTicket::lost);
    }
}
