package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.postgresql.api.PostgresqlResult;
import io.r2dbc.spi.Row;
import java.util.function.IntConsumer;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Publisher;
import org.reactivestreams.Subscription;
import reactor.core.CoreSubscriber;

/**
 * One message to the server, from sending it to the last of its answers; the driver never sees a cancel.
 *
 * <p>An error of one statement of the message arrives before the driver knows the new transaction status, so nothing is
 * decided before the message as a whole has ended: {@link Listener#ended} is called once, after that.
 */
final class Exchange implements CoreSubscriber<PostgresqlResult> {

    /** Is told the end of a message. */
    @FunctionalInterface
    interface Listener {
        /**
         * The server has answered all of the message, or never will.
         *
         * @param error the first error of any of its statements, or {@code null}
         * @param yes whether every boolean that the statements returned was true
         */
        void ended(@Nullable Throwable error, boolean yes);
    }

    private final boolean readRows;
    private final @Nullable IntConsumer numbers;
    private final Listener listener;
    private @Nullable Throwable error;
    private boolean yes = true;

    private Exchange(boolean readRows, @Nullable IntConsumer numbers, Listener listener) {
        this.readRows = readRows;
        this.numbers = numbers;
        this.listener = listener;
    }

    /** Sends statements whose rows do not matter. */
    static void send(PostgresqlConnection connection, String sql, Listener listener) {
        // a fetch size, which the user's factory may set, would mean the extended protocol: one statement a message
        connection.createStatement(sql).fetchSize(0).execute().subscribe(new Exchange(false, null, listener));
    }

    /** Sends statements whose rows begin with a boolean or a number. */
    static void ask(PostgresqlConnection connection, String sql, IntConsumer numbers, Listener listener) {
        connection.createStatement(sql).fetchSize(0).execute().subscribe(new Exchange(true, numbers, listener));
    }

    /** Sends statements that return booleans. */
    static void ask(PostgresqlConnection connection, String sql, Listener listener) {
        connection.createStatement(sql).fetchSize(0).execute().subscribe(new Exchange(true, null, listener));
    }

    /** Runs one of the driver's own operations. */
    static void run(Publisher<Void> operation, Listener listener) {
        operation.subscribe(new Part<Void>(new Exchange(false, null, listener), true));
    }

    @Override
    public void onSubscribe(Subscription subscription) {
        subscription.request(Long.MAX_VALUE);
    }

    @Override
    public void onNext(PostgresqlResult result) {
        if (readRows) {
            result.map((row, metadata) -> isYes(row)).subscribe(new Part<Boolean>(this, false));
        } else {
            result.getRowsUpdated().subscribe(new Part<Long>(this, false));
        }
    }

    private boolean isYes(Row row) {
        IntConsumer told = numbers;
        if (told == null) {
            return Boolean.TRUE.equals(row.get(0, Boolean.class));
        }
        Object value = row.get(0);
        if (value instanceof Integer number) {
            told.accept(number);
        }
        return !Boolean.FALSE.equals(value);
    }

    @Override
    public void onError(Throwable failure) {
        fail(failure);
        listener.ended(error, yes);
    }

    @Override
    public void onComplete() {
        listener.ended(error, yes);
    }

    private void fail(Throwable failure) {
        if (error == null) {
            error = failure;
        }
    }

    /** The answers to one statement of the message. */
    private static final class Part<T> implements CoreSubscriber<T> {

        private final Exchange whole;
        private final boolean last;

        Part(Exchange whole, boolean last) {
            this.whole = whole;
            this.last = last;
        }

        @Override
        public void onSubscribe(Subscription subscription) {
            subscription.request(Long.MAX_VALUE);
        }

        @Override
        public void onNext(T value) {
            if (Boolean.FALSE.equals(value)) {
                whole.yes = false;
            }
        }

        @Override
        public void onError(Throwable failure) {
            whole.fail(failure);
            if (last) {
                whole.onComplete();
            }
        }

        @Override
        public void onComplete() {
            if (last) {
                whole.onComplete();
            }
        }
    }
}
