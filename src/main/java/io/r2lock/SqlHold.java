package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import org.jspecify.annotations.Nullable;

/** A hold in a transaction whose connection the work may use, through a {@link HeldConnection}. */
abstract class SqlHold extends Hold {

    SqlHold(Acquire acquire) {
        super(acquire);
    }

    /** Where its user's statements are. */
    abstract Lane lane();

    abstract PostgresqlConnection wire();

    /** The connection has not closed, and was not closed. */
    abstract boolean isUsable();

    /** A statement of the user's is about to be sent. */
    abstract void marksConnection();

    /** A statement of the work met a connection that is gone, or a transaction that has ended. */
    abstract void lose(String why, @Nullable Throwable cause);

    /** Whether the server said, at the end of the last message, that a transaction is open or has failed. */
    final boolean isInTransaction() {
        return !wire().isAutoCommit();
    }
}
