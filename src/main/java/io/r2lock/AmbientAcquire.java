package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.R2dbcNonTransientResourceException;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import reactor.core.Disposable;
import reactor.core.Disposables;

/**
 * Takes keys in an ambient transaction: takes turns with the others in it, and then, without a gate of this process, asks the server
 * on the transaction's own connection, where PostgreSQL sees a deadlock.
 *
 * <p><b>No CancelRequest</b>, other than for r2lock's own connections: it hits whatever the backend is doing when it arrives, and the
 * owner's next statement, its COMMIT even, may be on the wire behind ours already. So a wait goes in slices that the server ends
 * by itself, each long enough that it looks for deadlocks meanwhile ({@link AmbientSql}). Who stops is told at once; the slice on its
 * way runs out, and what the owner sends next waits behind it, at most about as long again as it has waited, and seldom more than
 * {@link #LONGEST_SLICE_MILLIS}. Between two slices it loses its place in the server's queue.
 *
 * <p>A grant that crosses the stop cannot be given back: the lock stays with the transaction. A stop between the decision to send
 * and the sending, on two threads, cannot call that back either, as with any statement of R2DBC.
 */
final class AmbientAcquire extends Acquire {

    /** More than the {@code deadlock_timeout} of a server that is not configured. */
    private static final long FIRST_SLICE_MILLIS = 1_250;

    static final long LONGEST_SLICE_MILLIS = 5_000;

    private final AmbientScope scope;
    private final GatePass turns;
    private final PostgresqlConnection wire;
    private final Disposable.Swap pause = Disposables.swap();
    private final Backoff backoff = new Backoff();
    private long slice = FIRST_SLICE_MILLIS;

    AmbientAcquire(
            DefaultAdvisoryLocks client,
            LockSpec spec,
            @Nullable Hold surrounding,
            PostgresqlConnection wire,
            AmbientScope scope,
            Receiver receiver) {
        super(client, spec, surrounding, receiver);
        this.scope = scope;
        this.within = scope;
        this.wire = wire;
        this.turns = GatePass.forTurns(
                scope.turns(),
                spec.keys().stream()
                        .map(key -> new AmbientScope.Key(scope, key))
                        .toList(),
                this,
                () -> send(QUEUED),
                this::closesCycle);
    }

    @Override
    void begin() {
        if (!scope.adopt(this)) {
            stop(Stop.TRANSACTION_ENDED);
        } else if (isEnded()) {
            scope.abandon(this);
        } else if (!spec.noWait()) {
            turns.queue();
        } else if (turns.tryAll()) {
            send(QUEUED);
        } else {
            scope.abandon(this);
            fail(QUEUED, waited.busy("by another request inside the same transaction"));
        }
    }

    private void closesCycle() {
        withdraw();
        fail(QUEUED, waited.cycle());
    }

    private void send(int from) {
        if (advance(from, BORROWING) && advance(BORROWING, LOCKING)) {
            String sql = AmbientSql.lock(
                    spec.keys(), spec.mode(), !spec.noWait() && !spec.polls(), slice, waited.leftMillis());
            slice = Math.min(LONGEST_SLICE_MILLIS, 2 * slice);
            TextExchange.ask(wire, sql, new Answer());
        }
    }

    AmbientScope scope() {
        return scope;
    }

    PostgresqlConnection wire() {
        return wire;
    }

    /** What the server says to one message. */
    private final class Answer implements TextExchange.Listener {

        private String last = "";

        @Override
        public void text(int statement, String text) {
            last = text;
        }

        @Override
        public void ended(@Nullable Throwable error) {
            String[] parts = last.split(" ", 4);
            if (error != null || parts.length < 3) {
                refuse(failureOf(error));
            } else if (parts[2].equals(AmbientSql.GRANTED)) {
                scope.keep(spec);
                granted(Integer.parseInt(parts[0]), Integer.parseInt(parts[1]) == LockSql.HAS_ID);
            } else {
                answered(parts[2], parts.length == 4 ? parts[3] : "");
            }
        }
    }

    private void answered(String word, String about) {
        if (SqlStates.isLockTimeout(word)) {
            busy();
            return;
        }
        refuse(
                switch (word) {
                    case AmbientSql.ISOLATION ->
                        refusal(
                                "the ambient transaction is " + about
                                        + ", whose snapshot may be older than the grant, so that the work"
                                        + " would not see what the holder before it has committed. Use read committed, or requireNew().");
                    case AmbientSql.STANDBY ->
                        refusal("the ambient transaction is on a standby, where a lock excludes nobody on the primary");
                    case AmbientSql.ENCODING ->
                        new IllegalArgumentException("key of " + waited.attempt()
                                + " has no hash that this server would agree with: its text is not ASCII, and server_encoding is "
                                + about + ", not UTF8. Use LockKey.named.");
                    default -> failure(new R2dbcNonTransientResourceException(about, word));
                });
    }

    private void busy() {
        if (spec.noWait()) {
            refuse(waited.busy("by another process, or by another hold on the server"));
        } else if (waited.leftMillis() == 0) {
            refuse(waited.timedOut());
        } else if (!spec.polls()) {
            if (advance(LOCKING, PAUSING)) {
                send(PAUSING);
            }
        } else if (advance(LOCKING, PAUSING)) {
            pause.update(client.options()
                    .clock()
                    .schedule(() -> send(PAUSING), backoff.nextMillis(), TimeUnit.MILLISECONDS));
        }
    }

    private RuntimeException failureOf(@Nullable Throwable error) {
        String state = error == null ? null : SqlStates.of(error);
        if (error == null || SqlStates.isConnectionGone(state)) {
            return waited.lost("the connection of its transaction is gone");
        }
        return SqlStates.isNoTransaction(state)
                ? refusal("the connection of the ambient transaction is not in a transaction")
                : failure(error);
    }

    private IllegalStateException refusal(String why) {
        return new IllegalStateException("No " + waited.attempt() + ": " + why);
    }

    private void refuse(Throwable error) {
        if (advance(LOCKING, UNDOING)) {
            leave();
            fail(UNDOING, error);
        }
    }

    private void granted(int pid, boolean hadId) {
        if (!advance(LOCKING, GRANTED)) {
            return;
        }
        AmbientHold hold = new AmbientHold(this, pid, hadId);
        // before it is delivered, so that its work does not start
        if (!scope.isOpen()) {
            hold.abort(waited.lost(AmbientScope.COMPLETED));
        }
        hold.watch();
        deliver(hold);
        // whoever completed the transaction may have looked for this one before it was there
        if (!scope.isOpen()) {
            endHold(Stop.TRANSACTION_ENDED);
        }
    }

    @Override
    boolean endsAtOnce() {
        return true;
    }

    @Override
    void stoppedEarly(Stop reason) {
        withdraw();
        conclude(reason);
    }

    @Override
    void interrupt() {
        undo();
    }

    @Override
    void undo() {
        withdraw();
        stopped();
    }

    private void withdraw() {
        pause.dispose();
        leave();
    }

    /** Also called by the hold when it has ended. */
    void leave() {
        turns.leave();
        scope.abandon(this);
    }

    @Override
    public String toString() {
        return "ambient " + Objects.toString(spec);
    }
}
