package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.postgresql.api.PostgresqlResult;
import io.r2dbc.spi.Readable;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Subscription;
import reactor.core.CoreSubscriber;

/**
 * One message whose statements answer one text each, from sending it to the last of its answers; as with {@link Exchange} the
 * driver never sees a cancel, and nothing is over before the message as a whole has ended.
 */
final class TextExchange implements CoreSubscriber<PostgresqlResult> {

    /** Is told the answers, one after the other. */
    interface Listener {
        /** The text of the statement with this index. */
        void text(int statement, String text);

        /**
         * The server has answered all of the message, or never will.
         *
         * @param error the first error of any of its statements, or {@code null}
         */
        void ended(@Nullable Throwable error);
    }

    /** What the last of the statements answers. */
    static void askLast(PostgresqlConnection connection, String sql, TokenCall caller) {
        ask(connection, sql, new Last(caller));
    }

    /** Keeps the text of the last statement until all has ended. */
    private static final class Last implements Listener {

        private final TokenCall caller;
        private String text = "";

        Last(TokenCall caller) {
            this.caller = caller;
        }

        @Override
        public void text(int statement, String answer) {
            text = answer;
        }

        @Override
        public void ended(@Nullable Throwable error) {
            caller.answered(error == null ? text : "", error);
        }
    }

    private final Listener listener;
    private int statements;
    private @Nullable Throwable error;

    private TextExchange(Listener listener) {
        this.listener = listener;
    }

    static void ask(PostgresqlConnection connection, String sql, Listener listener) {
        // a fetch size, which the user's factory may set, would mean the extended protocol: one statement a message
        connection.createStatement(sql).fetchSize(0).execute().subscribe(new TextExchange(listener));
    }

    @Override
    public void onSubscribe(Subscription subscription) {
        subscription.request(Long.MAX_VALUE);
    }

    @Override
    public void onNext(PostgresqlResult result) {
        result.map(TextExchange::text).subscribe(new Row(statements++));
    }

    private static String text(Readable row) {
        String text = row.get(0, String.class);
        return text == null ? "" : text;
    }

    @Override
    public void onError(Throwable failure) {
        fail(failure);
        listener.ended(error);
    }

    @Override
    public void onComplete() {
        listener.ended(error);
    }

    private void fail(Throwable failure) {
        if (error == null) {
            error = failure;
        }
    }

    /** The answer of one statement. */
    private final class Row implements CoreSubscriber<String> {

        private final int statement;

        Row(int statement) {
            this.statement = statement;
        }

        @Override
        public void onSubscribe(Subscription subscription) {
            subscription.request(Long.MAX_VALUE);
        }

        @Override
        public void onNext(String text) {
            listener.text(statement, text);
        }

        @Override
        public void onError(Throwable failure) {
            fail(failure);
        }

        @Override
        public void onComplete() {
            // the message goes on
        }
    }
}
