package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import reactor.core.scheduler.Scheduler;

/**
 * The messages of a session connection that are on the wire, two at most, and the deadline for the older one. The server
 * answers in order, so the second slot is empty when the first is.
 *
 * <p>Not safe by itself: only the connection's drain uses it.
 */
final class BatchFlight {

    /** After a pause of this process the answer may have come already, and be read next. */
    static final long SECOND_LOOK_MILLIS = 50;

    private static final long DEADLINE_NANOS = TimeUnit.SECONDS.toNanos(LockConnection.STOP_DEADLINE_SECONDS);

    private final PostgresqlConnection wire;
    private final Scheduler clock;
    private final Runnable whenOver;
    private final Runnable whenDue;
    private final StringBuilder sql = new StringBuilder(8192);
    private @Nullable LockBatch first;
    private @Nullable LockBatch second;

    /** A timer runs: one at a time, however many messages. */
    private boolean watched;

    /** The older message was overdue at the last look. */
    private boolean suspected;

    /** {@code whenOver} runs when a message has ended, {@code whenDue} when it is time for {@link #isOverdue}. */
    BatchFlight(PostgresqlConnection wire, Scheduler clock, Runnable whenOver, Runnable whenDue) {
        this.wire = wire;
        this.clock = clock;
        this.whenOver = whenOver;
        this.whenDue = whenDue;
    }

    boolean isQuiet() {
        return first == null;
    }

    boolean isFull() {
        return second != null;
    }

    void send(List<SessionCall> calls) {
        send(new LockBatch(calls, whenOver));
    }

    /** Only to see whether it is answered. */
    void probe() {
        ask(SessionSql.PROBE);
    }

    /** A message of statements that are no calls; its text is what the last of them answers. */
    LockBatch ask(String question) {
        LockBatch batch = new LockBatch(List.of(), question, whenOver);
        send(batch);
        return batch;
    }

    private void send(LockBatch batch) {
        if (first == null) {
            first = batch;
        } else {
            second = batch;
        }
        sql.setLength(0);
        batch.write(sql, clock.now(TimeUnit.NANOSECONDS));
        TextExchange.ask(wire, sql.toString(), batch);
        watch(DEADLINE_NANOS);
    }

    /** The older message, if it has ended. */
    @Nullable
    LockBatch takeOver() {
        LockBatch batch = first;
        if (batch == null || !batch.isOver()) {
            return null;
        }
        first = second;
        second = null;
        suspected = false;
        return batch;
    }

    /** Whether the older message has had its time. */
    boolean isOverdue() {
        watched = false;
        LockBatch oldest = first;
        if (oldest == null) {
            return false;
        }
        long left = oldest.sentAt() + DEADLINE_NANOS - clock.now(TimeUnit.NANOSECONDS);
        if (left > 0) {
            watch(left);
            return false;
        }
        if (!suspected) {
            suspected = true;
            watch(TimeUnit.MILLISECONDS.toNanos(SECOND_LOOK_MILLIS));
            return false;
        }
        return true;
    }

    private void watch(long nanos) {
        if (!watched) {
            watched = true;
            clock.schedule(whenDue, nanos, TimeUnit.NANOSECONDS);
        }
    }

    void clear() {
        first = null;
        second = null;
    }
}
