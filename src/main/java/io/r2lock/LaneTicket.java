package io.r2lock;

import io.r2dbc.spi.Result;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.regex.Pattern;

/**
 * One user statement in the {@link Lane}: its results are streams of their own, and all that it has open count as one place.
 *
 * <p>The streams that are open are in the lane together, so that a result can be read while a section waits behind the
 * statement that the result belongs to.
 */
final class LaneTicket {

    private static final Pattern FREES =
            Pattern.compile("\\b(?:rollback|abort|commit|prepare)\\b", Pattern.CASE_INSENSITIVE);
    private static final Pattern END = Pattern.compile("\\bend\\b", Pattern.CASE_INSENSITIVE);

    /** Beside it END is most likely no command; what would end the whole transaction shows in its status all the same. */
    private static final Pattern CASE = Pattern.compile("\\bcase\\b", Pattern.CASE_INSENSITIVE);

    private final SqlHold hold;
    private final Set<LaneStream.Reader<?>> readers = ConcurrentHashMap.newKeySet();
    private final Queue<LaneStream.Reader<?>> abandoned = new ConcurrentLinkedQueue<>();
    private final List<Waiter> places = new ArrayList<>(1);
    private final boolean mayFree;
    private int inside;

    /** {@code mayFree}: the statement may free what was locked inside the transaction. */
    LaneTicket(SqlHold hold, boolean mayFree) {
        this.hold = hold;
        this.mayFree = mayFree;
    }

    /**
     * Only commands that end a transaction or a part of it free its locks, and their names cannot be written in another way. A
     * word of a text or a name that looks like one costs a question to the server, no more.
     */
    static boolean mayFree(String sql) {
        return FREES.matcher(sql).find()
                || (END.matcher(sql).find() && !CASE.matcher(sql).find());
    }

    /** Starts the reader when the lane lets it in, at once if the statement is in there already. */
    void join(LaneStream.Reader<?> reader) {
        synchronized (this) {
            if (inside > 0) {
                inside++;
                readers.add(reader);
            }
        }
        if (readers.contains(reader)) {
            start(reader);
            return;
        }
        Waiter place = hold.lane().place(LockMode.SHARED, turn -> enter(reader, turn));
        if (hold.lane().enter(place)) {
            enter(reader, place);
        }
    }

    private void enter(LaneStream.Reader<?> reader, Waiter place) {
        synchronized (this) {
            inside++;
            places.add(place);
            readers.add(reader);
            hold.lane().runs(this);
        }
        start(reader);
    }

    /** In the lane first, the hold looked at after: whoever ends the hold does the opposite. */
    private void start(LaneStream.Reader<?> reader) {
        if (hold.isLive() && hold.isUsable() && !hold.isInTransaction()) {
            // the next one would commit by itself, without the lock
            hold.lose("a statement of the work itself ended the lock's transaction, and with it the lock", null);
        }
        if (hold.isLive()) {
            reader.start();
        } else {
            leave(reader);
            reader.refuse(hold.lost("it has ended; its connection runs no more statements", null));
        }
    }

    void leave(LaneStream.Reader<?> reader) {
        if (!readers.remove(reader)) {
            return;
        }
        List<Waiter> left;
        synchronized (this) {
            if (--inside > 0) {
                return;
            }
            left = List.copyOf(places);
            places.clear();
            hold.lane().ran(this);
        }
        left.forEach(hold.lane()::leave);
    }

    /** The hold begins to end: nobody reads on, and what the server still answers is thrown away. */
    void abandon() {
        for (LaneStream.Reader<?> reader : readers) {
            abandoned.add(reader);
            reader.mute();
        }
    }

    /** The hold has ended. */
    void lost() {
        abandoned.forEach(reader -> reader.lost(hold.lost("it ended while a statement ran on its connection", null)));
    }

    /** A result that is on its way already. */
    UnreadResult unread(Result result) {
        return UnreadResult.of(hold, result);
    }

    /** A result whose statement is sent when it is read. */
    UnreadResult unsent(Result result) {
        return new UnreadResult(hold, result);
    }

    /** User statements leave things in the session. */
    void marksConnection() {
        hold.marksConnection();
        if (mayFree) {
            hold.lane().mayHaveFreed();
        }
    }

    /** The statement met a connection that is gone, or one that is in doubt. */
    void connectionGone(Throwable error) {
        hold.lose("a statement of the work found its connection gone: " + error.getMessage(), error);
    }
}
