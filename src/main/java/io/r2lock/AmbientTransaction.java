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
     * request's subscriber ({@link Mono#deferContextual}). It should answer at once: the time counts against no limit, and a request that is
     * cancelled meanwhile does not cancel it.
     *
     * @return the transaction, begun and neither completed nor about to be; empty where there is none; an error is the
     *     request's
     */
    Mono<Participation> current();

    /** One transaction, for those who take part in it. */
    interface Participation {

        /**
         * The transaction's connection: one of r2dbc-postgresql, or a wrapper that {@linkplain io.r2dbc.spi.Wrapped unwraps} to one, to
         * the database that the client locks in, where keys are counted. It is used until the completion and never closed.
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
