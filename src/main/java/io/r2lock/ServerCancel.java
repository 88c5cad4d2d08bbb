package io.r2lock;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import reactor.core.scheduler.Scheduler;

/**
 * Ends statements on the server by CancelRequest, and says when the connection is quiet again: the statements have been
 * answered <em>and</em> no request is on its way, because one that arrives late would hit whatever runs then.
 *
 * <pre>
 *   IDLE ──begin and sent──▶ REQUESTING ⇄ WAITING ──answered──▶ QUIET
 *    └──answered──▶ ANSWERED            └── answered, then the request's end ──▶ QUIET
 * </pre>
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

    private final LockConnection connection;
    private final Scheduler clock;
    private final Runnable quiet;
    private final AtomicInteger state = new AtomicInteger();

    ServerCancel(LockConnection connection, Scheduler clock, Runnable quiet) {
        this.connection = connection;
        this.clock = clock;
        this.quiet = quiet;
    }

    /** Called once, when the statement is on its way: before that there is nothing that a request could hit. */
    void sent() {
        if ((mark(SENT) & BEGUN) != 0) {
            request();
        }
    }

    /** Called at most once, whether the statement is sent already or not. */
    void begin() {
        connection.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, this::overdue);
        if ((mark(BEGUN) & SENT) != 0) {
            request();
        }
    }

    private int mark(int bit) {
        return state.getAndAccumulate(bit, (before, added) -> before | added);
    }

    /**
     * As {@link #begin}, but lets a statement that ends by itself do so: the error of one arrives before its end does, in the
     * same packet mostly, and a CancelRequest takes a connection of its own.
     */
    void beginUnlessAnsweredSoon() {
        connection.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, this::overdue);
        int before = state.getAndAccumulate(BEGUN, (now, bit) -> now | bit);
        if ((before & ANSWERED) != 0) {
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
        if ((mark(REQUESTING) & ANSWERED) != 0) {
            becomeQuiet();
            return;
        }
        connection.cancelRequest(this::requested);
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
        if (state.get() == (BEGUN | SENT) && connection.isUsable()) {
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
