package io.r2lock;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import reactor.core.scheduler.Scheduler;

/**
 * Ends statements on the server by CancelRequest, and says when the connection is quiet again: the statements have been
 * answered <em>and</em> no request is on its way, because one that arrives late would hit whatever runs then.
 *
 * <pre>
 *   IDLE ──begin, sent and free──▶ REQUESTING ⇄ WAITING ──answered──▶ QUIET
 *    └──answered──▶ ANSWERED            └── answered, then the request's end ──▶ QUIET
 * </pre>
 *
 * <p>While the end of another transaction is in front of the statement on the same connection, a request would hit that: it is
 * {@link #free} to go only when that end is answered.
 *
 * <p>A request can overtake the statement that it is meant for, which travels on another connection; so it is repeated until
 * the answer comes. If none comes in {@link LockConnection#STOP_DEADLINE_SECONDS} the connection is closed, which answers
 * everything.
 */
final class ServerCancel {

    private static final long REPEAT_MILLIS = 100;
    private static final long SOON_MILLIS = 5;

    private static final int ANSWERED = 1;
    private static final int REQUESTING = 2;
    private static final int BEGUN = 4;
    private static final int QUIET = 8;
    private static final int SENT = 16;
    private static final int FREE = 32;

    /** There is a deadline. */
    private static final int LIMITED = 64;

    private static final int READY = BEGUN | SENT | FREE;

    private final LockConnection connection;
    private final Scheduler clock;
    private final Runnable quiet;
    private final AtomicInteger state;

    ServerCancel(LockConnection connection, Scheduler clock, Runnable quiet) {
        this(connection, clock, quiet, false);
    }

    /** {@code behind}: another's transaction ends in front of the statement, and {@link #free} follows. */
    ServerCancel(LockConnection connection, Scheduler clock, Runnable quiet, boolean behind) {
        this.connection = connection;
        this.clock = clock;
        this.quiet = quiet;
        this.state = new AtomicInteger(behind ? 0 : FREE);
    }

    /** Called once, when the statement is on its way: before that there is nothing that a request could hit. */
    void sent() {
        requestIfReady(SENT);
    }

    /** Called once, when the connection is the statement's alone; before that a request would hit somebody else. */
    void free() {
        requestIfReady(FREE);
    }

    /** Called at most once, whether a request may go already or not. */
    void begin() {
        requestIfReady(BEGUN);
    }

    /** Each bit is set once, so that exactly one call completes them. */
    private void requestIfReady(int bit) {
        if (((mark(bit) | bit) & READY) == READY) {
            request();
        }
    }

    private int mark(int bits) {
        return state.getAndAccumulate(bits, (before, added) -> before | added);
    }

    /**
     * As {@link #begin}, but lets a statement that ends by itself do so: the error of one arrives before its end does, in the
     * same packet mostly, and a CancelRequest takes a connection of its own.
     */
    void beginUnlessAnsweredSoon() {
        connection.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, this::overdue);
        if ((mark(BEGUN | LIMITED) & ANSWERED) != 0) {
            becomeQuiet();
        } else {
            clock.schedule(this::repeat, SOON_MILLIS, TimeUnit.MILLISECONDS);
        }
    }

    /** Called once, when the statement is answered, but never before it was decided to call {@link #begin} too. */
    void answered() {
        int now = state.accumulateAndGet(ANSWERED, (before, bit) -> before | bit);
        if ((now & BEGUN) != 0 && ((now & REQUESTING) == 0 || !connection.isUsable())) {
            becomeQuiet();
        }
    }

    private void request() {
        int before = mark(REQUESTING | LIMITED);
        if ((before & ANSWERED) != 0) {
            becomeQuiet();
            return;
        }
        if ((before & LIMITED) == 0) {
            limit();
        }
        connection.cancelRequest(this::requested);
    }

    /** Only now: what is in front of the statement has a deadline of its own, and the connection has one at a time. */
    private void limit() {
        long limit = connection.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, this::overdue);
        if ((state.get() & QUIET) != 0) {
            connection.inTime(limit);
        }
    }

    private void requested() {
        int now = state.accumulateAndGet(~REQUESTING, (before, bits) -> before & bits);
        if ((now & ANSWERED) != 0) {
            becomeQuiet();
        } else {
            clock.schedule(this::repeat, REPEAT_MILLIS, TimeUnit.MILLISECONDS);
        }
    }

    /** The connection is closed: what is still on its way can hit nobody. An answer that is missing comes as an error. */
    private void overdue() {
        if ((state.get() & ANSWERED) != 0) {
            becomeQuiet();
        }
    }

    private void repeat() {
        if (state.get() == (READY | LIMITED) && connection.isUsable()) {
            request();
        }
    }

    private void becomeQuiet() {
        if ((mark(QUIET) & QUIET) == 0) {
            connection.inTime();
            quiet.run();
        }
    }
}
