package io.r2lock;

import java.util.Objects;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * An attempt that takes all its keys by one statement in a transaction.
 *
 * <p>{@code LOCKING} begins just before the statement is sent; a stop that comes in between leaves the CancelRequest to the sender,
 * which {@link ServerCancel#sent} sees to: the sender must not look at the state again, as the answer may have moved it on
 * already.
 */
abstract class StatementAcquire extends Acquire {

    private volatile @Nullable ServerCancel cancel;
    private volatile @Nullable LockConnection connection;

    StatementAcquire(DefaultAdvisoryLocks client, LockSpec spec, @Nullable Hold surrounding, Receiver receiver) {
        super(client, spec, surrounding, receiver);
    }

    /** Leaves the gates and the queue for a connection; called by who ended the attempt there. */
    abstract void withdraw();

    /** The server has granted everything, and the state is GRANTED. */
    abstract void granted();

    /** The state is UNDOING: the key was busy, or {@code error} says what else. Undoes, then fails or starts again. */
    abstract void refused(@Nullable Throwable error);

    @Override
    final boolean endsAtOnce() {
        return true;
    }

    @Override
    final void stoppedEarly(Stop reason) {
        withdraw();
        conclude(reason);
    }

    @Override
    final void interrupt() {
        cancel().begin();
    }

    /** Sends the lock's statement; {@code false} when a stop came first and nothing was sent. */
    final boolean lock(LockConnection on, String sql, boolean ask) {
        return lockBehind(null, on, sql, ask);
    }

    /** As {@link #lock}; {@code from}: behind the end of another transaction, on the connection that passes on. */
    final boolean lock(LockConnection on, String sql, boolean ask, @Nullable HandOff from) {
        // before it is sent: once it is answered somebody else may have the connection already
        Consumer<Runnable> end = from == null
                ? null
                : free -> from.take(() -> {
                    on.closeWhenLost();
                    free.run();
                });
        return lockBehind(end, on, sql, ask);
    }

    /** As {@link #lock}, behind what {@code front} sends, which a CancelRequest must not hit: it runs what it is given once that is answered. */
    final boolean lockBehind(@Nullable Consumer<Runnable> front, LockConnection on, String sql, boolean ask) {
        ServerCancel own = new ServerCancel(on, client.options().clock(), this::undo, front != null);
        cancel = own;
        connection = on;
        if (ask) {
            // never waits on the server, so that only a dead one takes long; set before a stop can set its own
            on.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, () -> {});
        }
        if (!advance(BORROWING, LOCKING)) {
            if (ask) {
                on.inTime();
            }
            return false;
        }
        if (front != null) {
            front.accept(own::free);
        }
        send(on, sql, ask, this::answered);
        own.sent();
        return true;
    }

    /** Sends the lock's statement; {@code ask}: it answers whether the keys were free. */
    void send(LockConnection on, String sql, boolean ask, Exchange.Listener listener) {
        if (ask) {
            on.ask(sql, listener);
        } else {
            on.send(sql, listener);
        }
    }

    private void answered(@Nullable Throwable error, boolean yes) {
        // a connection whose cleaning failed, or that closed meanwhile, has granted nothing
        if (error == null && yes && connection().isUsable()) {
            if (advance(LOCKING, GRANTED)) {
                connection().inTime();
                granted();
                return;
            }
        } else if (advance(LOCKING, UNDOING)) {
            connection().inTime();
            refused(error);
            return;
        }
        cancel().answered();
    }

    private ServerCancel cancel() {
        return Objects.requireNonNull(cancel);
    }

    /** The connection that the lock's statement was sent on. */
    final LockConnection connection() {
        return Objects.requireNonNull(connection);
    }
}
