package io.r2lock;

import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * One message for a session connection: the calls that share it, and what the server said to each.
 *
 * <pre>
 *   FILLING ──written──▶ IN_FLIGHT ──ended──▶ OVER     with an error, or every call has its answer
 * </pre>
 *
 * <p>The drain fills it and reads it when it is over; in between it belongs to the driver's stream. {@link #over} hands it back.
 * A key stands in it once at most.
 */
final class LockBatch implements TextExchange.Listener {

    private static final char YES = '1';

    private final List<SessionCall> calls;
    private final String question;
    private final Runnable whenOver;

    /** The kinds of the statements, in their order. */
    private final CallKind[] statements = new CallKind[CallKind.IN_ORDER.size()];

    private int statementCount;
    private int answered;
    private String text = "";
    private @Nullable Throwable error;
    private long sentAt;
    private volatile boolean over;

    /** A batch without calls asks what the session holds. */
    LockBatch(List<SessionCall> calls, Runnable whenOver) {
        this(calls, SessionSql.SESSION_LOCKS, whenOver);
    }

    /** {@code question}: what a batch without calls asks. */
    LockBatch(List<SessionCall> calls, String question, Runnable whenOver) {
        this.calls = calls;
        this.question = question;
        this.whenOver = whenOver;
    }

    List<SessionCall> calls() {
        return calls;
    }

    /** Writes the message; called once, just before it is sent. */
    void write(StringBuilder sql, long now) {
        sentAt = now;
        if (calls.isEmpty()) {
            sql.append(question);
            return;
        }
        for (CallKind kind : CallKind.IN_ORDER) {
            int count = count(kind);
            if (count > 0) {
                statements[statementCount++] = kind;
                SessionSql.sessionCalls(sql, kind, calls, count);
            }
        }
    }

    private int count(CallKind kind) {
        int count = 0;
        for (int i = 0; i < calls.size(); i++) {
            count += calls.get(i).kind == kind ? 1 : 0;
        }
        return count;
    }

    long sentAt() {
        return sentAt;
    }

    @Override
    public void text(int statement, String answer) {
        if (calls.isEmpty()) {
            text = answer;
            return;
        }
        if (statement >= statementCount) {
            return;
        }
        CallKind kind = statements[statement];
        int at = 0;
        for (int i = 0; i < calls.size() && at < answer.length(); i++) {
            SessionCall call = calls.get(i);
            if (call.kind == kind) {
                call.said = answer.charAt(at++) == YES;
                answered++;
            }
        }
    }

    @Override
    public void ended(@Nullable Throwable failure) {
        if (failure == null && answered != calls.size()) {
            error = new IllegalStateException(
                    "the server answered " + answered + " of " + calls.size() + " session lock calls");
        } else {
            error = failure;
        }
        over = true;
        whenOver.run();
    }

    boolean isOver() {
        return over;
    }

    /** Of the message as a whole; the server may have done any part of it. */
    @Nullable
    Throwable error() {
        return error;
    }

    /** What a batch without calls was answered. */
    String text() {
        return text;
    }
}
