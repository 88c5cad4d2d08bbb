package io.r2lock;

import io.r2dbc.spi.Connection;
import reactor.core.publisher.Mono;

/**
 * How r2lock finds a transaction that somebody else owns, a framework say, so that a lock can be taken on that transaction's own
 * connection and live exactly as long as it. Given to {@link AdvisoryLocks.Builder#ambientTransaction(AmbientTransaction)}.
 *
 * <p>A request in transaction scope whose subscriber stands in such a transaction joins it, unless it says
 * {@link LockRequest#requireNew()}. r2lock never begins, commits, rolls back or closes it: <b>the server's lock lives until that
 * transaction ends</b>, whatever becomes of the guarded work, whose end is the end of a turn only. The value of the work is emitted when
 * the work ends; whether what it wrote is committed, the owner decides later.
 *
 * <p>Here the transaction stands in the Reactor Context under a key of its own:
 *
 * <pre>{@code
 * AdvisoryLocks locks = AdvisoryLocks.builder(connectionFactory)
 *         .ambientTransaction(() -> Mono.deferContextual(context ->
 *                 Mono.justOrEmpty(context.<AmbientTransaction.Participation>getOrEmpty("transaction"))))
 *         .build();
 * }</pre>
 */
@FunctionalInterface
public interface AmbientTransaction {

    /**
     * The transaction around the subscriber. Subscribed to once for each request, before anything else, with the Context of the
     * request's subscriber ({@link Mono#deferContextual}). It should answer at once. The time counts against
     * {@link LockRequest#waitAtMost}, as time for a connection, and {@link AdvisoryLocks#close()} ends it; a request that does not wait, or
     * waits for ever, has no other limit here, is not counted by {@link AdvisoryLocks.Builder#maxWaiters(int)} yet, and where no answer
     * comes, it is kept in memory until the close, cancelled or not. Who cancels meanwhile is free at once and takes nothing; the question
     * itself is never cancelled.
     *
     * @return the transaction, begun and neither completed nor about to be; empty where there is none; an error is the
     *     request's, and so is what it, or a method of the transaction, throws
     */
    Mono<Participation> current();

    /** One transaction, for those who take part in it. What a method throws, or {@code null} where it must answer, is the request's error. */
    interface Participation {

        /**
         * The transaction's connection: one of r2dbc-postgresql, or a wrapper that {@linkplain io.r2dbc.spi.Wrapped unwraps} to one, to
         * the database that the client locks in, where keys are counted. It is used until the completion and never closed.
         *
         * <p>As long as guarded work runs, r2lock asks over a connection of its own whether the backend lives, and whether it is in the same
         * transaction still: see {@link HeldLock#lost()}. When the server frees the locks of a connection that was cut silently, is up to the
         * connection's own settings; with the server's defaults it is after about two hours.
         *
         * @return the connection
         */
        Connection connection();

        /**
         * What tells this transaction from every other: the same object for all who take part in it, and never one that was another
         * transaction's. Compared by identity, and not kept alive.
         *
         * @return the identity
         */
        Object transaction();

        /**
         * Tells the end of the transaction: best just before its COMMIT or ROLLBACK is sent, so that guarded work that still runs is
         * cancelled before its lock is gone, or else right after. Subscribed to once by each client that takes part, never
         * cancelled; it must also tell those that come late. A transaction whose end is never told keeps no memory, but what guarded
         * work does after it has no lock.
         *
         * @return completes, or errors, when the transaction ends
         */
        Mono<Void> completion();
    }
}
