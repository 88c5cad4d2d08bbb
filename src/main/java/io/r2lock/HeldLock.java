package io.r2lock;

import io.r2dbc.spi.Connection;
import java.util.List;
import reactor.core.publisher.Mono;

/**
 * One granted lock: what {@link LockRequest#acquire()} emits and what the functions of {@code guard} are given.
 *
 * <p>In transaction scope a hold is a transaction on a connection of its own; in session scope ({@link LockRequest#inSession()}) many
 * holds share a connection, and there is no transaction. It ends with {@link #commit()} or {@link #release()}, whichever
 * comes first; a hold that {@code guard} opened ends by itself, and a <em>joined</em> hold, one that was granted inside
 * another (see {@link LockRequest#requireNew()}), uses what the outer one has and ends its turn only.
 *
 * <p>Safe to use from any thread.
 */
public interface HeldLock {

    /**
     * What is locked.
     *
     * @return the keys in canonical order, without repetition, never empty
     */
    List<LockKey> keys();

    /**
     * How it is locked.
     *
     * @return the mode
     */
    LockMode mode();

    /**
     * The server process that holds the lock, as {@code pg_locks.pid} shows it; of several keys in session scope, the first.
     *
     * @return the process id
     */
    int backendPid();

    /**
     * The connection that holds the lock, inside the lock's transaction: what is written through it is committed with the
     * hold, or not at all, which no other way of writing can promise.
     *
     * <p>It is a view. {@code close()} does nothing; beginning, committing or rolling back the transaction is refused with
     * an {@link IllegalStateException}, because it would end the lock; savepoints work, but rolling back to one that is older than
     * a nested request frees what that request locked. Statements run while the hold lasts
     * and fail with {@link LockLostException} afterwards. What they leave in the session (settings, role, temporary tables,
     * cursors, session locks) is cleaned before the connection's next use. Read results to their end, with
     * {@code Flux.from(statement.execute()).flatMap(Result::getRowsUpdated)} say: {@code Mono.from} cancels after the first.
     *
     * @return the view, the same one at each call
     * @throws UnsupportedOperationException in session scope, where there is no such connection; a hold that joined one inside a
     *     transaction has that transaction's
     */
    Connection connection();

    /**
     * A number that is larger than that of every earlier hold of the keys, and smaller than that of every later one; for work that
     * writes where the lock's transaction does not reach, and so may be overtaken: a holder that was paused, or cut off, may learn
     * of its loss after the next one has begun. The resource refuses what comes with a smaller token than it has seen:
     *
     * <pre>{@code
     * Mono<Void> written = locks.exclusive(key)
     *         .inSession()
     *         .guard(hold -> hold.fencingToken().flatMap(token -> store.put(document, token.asLong())));
     * }</pre>
     *
     * <p>Cold: the first subscription asks the server, one round trip and one transaction id, and all later ones share its
     * answer, so that a hold has one token. After an error the next one asks again. A cancel ends the subscription, not the
     * statement. In transaction scope it runs on {@link #connection()} beside the statements of the work, and an error of the
     * server's fails the transaction; in session scope it runs once on each session that holds one of the keys.
     *
     * <p>A joined hold has the token of the one whose key it uses. Where it took a new key in a transaction that had an id
     * already, because it had written or had been asked for a token, there is none: another process may have held the key
     * meanwhile, with a larger one.
     *
     * @return the token; {@link LockLostException} when the hold has ended, or ends before the answer is there; {@link
     *     LockServerException} when the server refuses, as a standby does; {@link IllegalStateException} with the reason where
     *     there cannot be one: for a permit, a joined hold as above, one that joined several holds, or at the end of the range
     *     ({@link FencingToken#asLong()})
     */
    Mono<FencingToken> fencingToken();

    /**
     * Tells that the hold ended and its holder had not ended it: what runs because of it, must stop. {@code guard} does that
     * by itself; whoever got the hold from {@link LockRequest#acquire()} listens here.
     *
     * <p>A connection that closes, as when its backend is terminated or the server crashes, is told at once; a network that is
     * cut silently, within {@link AdvisoryLocks.Builder#heartbeat(java.time.Duration)} plus {@link
     * AdvisoryLocks.Builder#heartbeatDeadline(java.time.Duration)}, which is before the server gives the lock to another. In an {@link
     * AmbientTransaction} it is told as soon; but when the server gives the lock to another depends on the settings of a connection
     * that is not r2lock's, and a cut of that connection alone is seen only when it closes, or when the server has ended its transaction.
     *
     * <p>Hot: it tells every subscriber the same, also those that come late. A cancel ends the subscription only.
     *
     * @return errors with {@link LockLostException} when the lock was lost, with {@link LockHoldExpiredException} or {@link
     *     LocksClosedException} when it was ended for that reason; completes when the hold was committed or released
     */
    Mono<Void> lost();

    /**
     * Commits what was written through {@link #connection()}, which releases the lock. For a joined hold, as
     * {@link #release()}: the outer hold decides. In session scope as {@link #release()}, but
     * it tells a loss that is known.
     *
     * <p>Cold and idempotent: the transaction is committed once, at the first subscription, and every subscriber is told the
     * outcome. A cancel is ignored: a COMMIT on its way cannot be called back.
     *
     * @return completes when the server has committed; errors with the server's error when it refused (then all is rolled
     *     back), with {@link CommitOutcomeUnknownException} when the answer never came, with {@link LockLostException} when
     *     the lock was lost before, and with {@link IllegalStateException} after {@link #release()}
     */
    Mono<Void> commit();

    /**
     * Ends the hold. What was written through {@link #connection()} and not committed is rolled back, so that
     * {@code Mono.usingWhen(request.acquire(), work, HeldLock::release)} never commits failed work.
     *
     * <p>Cold and idempotent. A cancel is ignored.
     *
     * @return completes when the lock is free, has passed to the next caller of this process, or stays with other readers of it; or,
     *     for a joined hold, when its turn is over; never errors: a connection that cannot be rolled back is closed, and the server frees the lock when it
     *     notices
     */
    Mono<Void> release();

    /**
     * Runs work inside this hold without ending it: requests that the work makes for the same key are re-entrant, and those
     * for other keys use the same transaction.
     *
     * <p>Cold; a cancel cancels the work and leaves the hold as it is.
     *
     * @param work what to run
     * @param <T> what it emits
     * @return what the work emits; {@link LockLostException} when the hold has ended, or ends before the work does, which is
     *     cancelled then
     */
    <T> Mono<T> guard(Mono<T> work);
}
