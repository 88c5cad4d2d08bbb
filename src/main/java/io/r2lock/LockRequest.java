package io.r2lock;

import java.time.Duration;
import java.util.function.Function;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * What to lock, in which mode and how long to wait for it; made by {@link AdvisoryLocks#exclusive(LockKey, LockKey...)} and
 * {@link AdvisoryLocks#shared(LockKey, LockKey...)}.
 *
 * <p>Immutable: every setting returns a new request, so one can be kept and used for many subscriptions at once.
 *
 * <p>There are two doors. {@code guard} runs work under the lock and ends the hold whatever happens: prefer it.
 * {@link #acquire()} gives the hold away, for the rare lifetime that no operator spans; its caller must end it.
 *
 * <p>All publishers are cold: each subscription takes the lock anew. <b>Cancel</b> is safe at every instant: a queued
 * request leaves the queue, a wait on the server is cancelled there, granted work is cancelled and rolled back, and no lock,
 * transaction or connection outlives the call. <b>Connections</b>: one of {@link AdvisoryLocks.Builder#maxConnections(int)}
 * while waiting on the server and while holding, none while queued behind another caller of this process; {@link #inSession()}
 * none of its own, but one of {@link AdvisoryLocks.Builder#waitingConnections(int)} for a key that is busy elsewhere.
 *
 * <p><b>Errors</b>, beside those of the work, which pass through untouched: {@link LockNotAvailableException},
 * {@link LockTimeoutException}, {@link LockDeadlockException}, {@link LockServerException}, {@link LockCapacityException},
 * {@link LockLostException}, {@link LockHoldExpiredException},
 * {@link CommitOutcomeUnknownException}, {@link LocksClosedException}; and {@link IllegalStateException} where a request
 * inside a hold asks for the impossible (exclusive inside shared, {@link #requireNew()} of a key that its own chain holds).
 *
 * <p><b>Nesting.</b> A request inside the work of another one joins it: the same key is re-entrant, another key is taken in
 * the same transaction and held until that ends. It is the Reactor Context that tells, never the thread. Requests side by
 * side in one hold that name one key take turns. Where there is no transaction around it, or the request is one
 * {@link #inSession()}, another key is taken on its own and freed at its own end; its wait must be bounded where a hold around it,
 * or the request itself, is in session scope, because PostgreSQL sees no deadlock there.
 *
 * <p><b>Ambient transactions.</b> With {@link AdvisoryLocks.Builder#ambientTransaction(AmbientTransaction)} a request in transaction
 * scope that stands in a transaction of somebody else's is taken in that: on its connection, until it ends, and none of r2lock's own is
 * used. The innermost transaction is joined, r2lock's own or the ambient one; a key that a surrounding hold has is re-entrant. Values are
 * emitted when the work ends, and the transaction's owner decides what is committed; when the transaction ends first, the work is
 * cancelled with {@link LockLostException}. Requests side by side in one such transaction that name one key take turns.
 * A cancelled or timed out request is told at once and leaves the transaction usable, but what is sent on its connection next may have to
 * wait for the server's answer, mostly a second or two and seldom more than five; a lock that is granted meanwhile stays until the transaction
 * ends. <b>Order:</b> requests in one transaction have their turns in the order in which they came. On the server a wait goes in slices of
 * one to five seconds, and between two of them it loses its place in the server's queue: others who come later may be served before it.
 * Refused with an {@link IllegalStateException}: a transaction that is repeatable read or serializable (its snapshot would be older
 * than the grant), one on a standby, a connection that is in no transaction or is not one of r2dbc-postgresql, and a request that would
 * wait on another connection for what the transaction has.
 */
public interface LockRequest {

    /**
     * Waits without bound; the default, unless {@link AdvisoryLocks.Builder#defaultWait(Duration)} says otherwise.
     *
     * @return a new request
     */
    LockRequest waitForever();

    /**
     * Waits at most this long, for everything together: earlier callers of this process, a connection, the server's lock.
     *
     * @param wait more than zero, at most 24 days; smaller than a millisecond counts as one
     * @return a new request, which errors with {@link LockTimeoutException} when the time is over
     */
    LockRequest waitAtMost(Duration wait);

    /**
     * Does not wait: neither for another holder nor for a free connection. Opening one, where the pool still may, and one
     * round trip are not counted as waiting; nor is, inside a hold, what else runs on the hold's connection. A key counts as busy
     * also while its lock is just being given back for other processes, see {@link AdvisoryLocks.Builder#handOffLimit(int)}.
     *
     * @return a new request, which errors with {@link LockNotAvailableException} when a key is busy
     */
    LockRequest noWait();

    /**
     * As {@link #noWait()}, but busy completes empty. Use it where skipping is the point, as in "unless another instance
     * does it"; elsewhere an empty result is too easily taken for success.
     *
     * @return a new request, which completes empty when a key is busy
     */
    LockRequest skipIfBusy();

    /**
     * Waits without a statement that blocks on the server: tries again and again, after 10 ms at first and 250 ms at last, give or
     * take half. A blocked statement keeps a snapshot, for which {@code CREATE INDEX CONCURRENTLY} waits and with which it can
     * deadlock; a wait that polls does not. It has no place in the server's queue: another process may be served before it.
     * Without this option a wait polls where no connection is left for it. A request that is taken in the transaction of a
     * surrounding hold waits there all the same.
     *
     * @return a new request
     */
    LockRequest polling();

    /**
     * Takes the lock in a transaction, on a connection of its own, which the work can use; the default.
     *
     * @return a new request
     */
    LockRequest inTransaction();

    /**
     * Takes the lock for the session of a connection that many holds share: no connection each, no open transaction, and many times
     * as many locks a second. For work that does not write through {@link HeldLock#connection()}, which there is none of, and for
     * long holds.
     *
     * <pre>{@code
     * Mono<Void> rebuilt = locks.exclusive(LockKey.named("index", tenant))
     *         .inSession()
     *         .waitAtMost(Duration.ofSeconds(30))
     *         .guard(rebuild);
     * }</pre>
     *
     * <p>Callers of one key in one process pass the lock on among themselves, at most
     * {@link AdvisoryLocks.Builder#handOffLimit(int)} times in a row, and readers share it; so no other process is kept out for ever.
     * The loss of a shared connection is the loss of all holds on it. Inside another hold the wait must be bounded: PostgreSQL sees no
     * deadlock among session locks, as holder and waiter are different backends. A request then names keys that the surrounding holds
     * have, or others, not both. Not behind a transaction-mode pooler.
     *
     * @return a new request, which errors with {@link IllegalArgumentException} where it would wait inside another hold without a
     *     bound
     */
    LockRequest inSession();

    /**
     * Never joins a surrounding hold: takes a connection and a transaction of its own, which commits on its own; in session scope,
     * locks of its own.
     *
     * <p>Inside a hold a transaction does not wait for a connection but fails with {@link LockNotAvailableException} when none is free
     * (holders that wait for connections of one pool would wait for each other for ever). PostgreSQL cannot see a cycle
     * between a hold and a request that its own work made on another connection, so bound the wait.
     *
     * @return a new request
     */
    LockRequest requireNew();

    /**
     * Bounds the hold: work that is not done by then is cancelled and rolled back. The time counts from the grant to the end of
     * the work; a COMMIT that has begun is not cut short.
     *
     * <p>For {@link #acquire()}, {@link HeldLock#lost()} tells. A nested hold that expires ends its own work only: its keys stay
     * locked until the surrounding hold ends, and a statement of it that is running runs on, because cancelling it would fail
     * the transaction that they share.
     *
     * @param hold more than zero, at most 24 days; smaller than a millisecond counts as one
     * @return a new request, whose work errors with {@link LockHoldExpiredException} when the time is over
     */
    LockRequest holdAtMost(Duration hold);

    /**
     * Keeps the lock for this long, counted from the grant, also where the work is done sooner: for work that is started by the
     * clock of several instances, and of which a quick run must not be repeated by an instance whose clock is late. Choose more
     * than the clocks may differ, and less than the period. In session scope only, permits included.
     *
     * <pre>{@code
     * static <T> Flux<T> onOneInstance(AdvisoryLocks locks, String job, Duration period, Mono<T> run) {
     *     LockRequest request = locks.exclusive(LockKey.named("cron", job))
     *             .inSession()
     *             .skipIfBusy() // another instance does it
     *             .holdAtLeast(period.multipliedBy(7).dividedBy(10)); // nor may a late clock repeat a quick run
     *     return Flux.interval(period)
     *             .onBackpressureDrop()
     *             .concatMap(tick -> request.guard(run)
     *                     .onErrorResume(AdvisoryLockException.class, error -> Mono.empty())); // next time then
     * }
     * }</pre>
     *
     * <p>The result, be it a value, a completion or an error, is told when the work ends, without waiting for the server; so are
     * {@link HeldLock#release()}, {@link HeldLock#commit()} and {@link HeldLock#lost()} of an acquired hold. The rest of the time goes
     * by in the background, on the connection that the lock is held on. Neither a cancel nor an error of the work shortens it; {@link
     * AdvisoryLocks#close()} ends it at once, and a hold that was lost, or whose work never began, has none. Other callers are kept
     * out meanwhile, in this process too, and so are requests of the work's own chain that come after it.
     *
     * <p><b>Not proof against a crash:</b> when the process or its connection dies, the lock is free, and a late instance runs
     * again. Where that must not be, keep a row that says when the last run was, and check and write it in the same transaction as
     * the work ({@link #inTransaction()}, {@link HeldLock#connection()}).
     *
     * @param hold more than zero, at most 24 days and at most what {@link #holdAtMost(Duration)} allows; without this option a hold ends
     *     with its work
     * @return a new request; its {@code guard}, {@code guardMany} and {@code acquire} throw an {@link IllegalArgumentException} in
     *     transaction scope, and where it would join a surrounding hold of the key, which is freed at that one's end, it errors with
     *     {@link IllegalStateException}
     */
    LockRequest holdAtLeast(Duration hold);

    /**
     * Makes {@link HeldLock#fencingToken()} durable, for a resource outside the database: the server writes the token's id to its log,
     * and flushes that, before it answers. Without this the server may, after a crash or a failover, give out ids again that had
     * left it within the last second or so, and the resource would refuse a new holder, or take it for the old one.
     *
     * <p>It costs one flush of the log a token (one for all that are asked for at a time on a shared connection), which is one write to
     * the disk, and, where the server has synchronous standbys, their answer; with {@code fsync} off, or asynchronous standbys, it
     * promises nothing more than those do. Session locks on the same connection wait meanwhile, and a server that does not answer
     * within 3 s loses that connection, as with any other message.
     *
     * <p>In session scope only, and not for permits: {@code guard} and {@link #acquire()} throw {@link IllegalArgumentException}
     * otherwise. A request that joins a hold without it gets no token, but an {@link IllegalStateException}.
     *
     * @return a new request
     */
    LockRequest durableTokens();

    /**
     * Runs a {@code Mono} under the lock.
     *
     * @param work subscribed to once the lock is granted, with the hold in its Context
     * @param <T> what it emits
     * @return the value of the work, emitted after COMMIT succeeded; an error when the lock could not be had, when the work
     *     failed (its own error, after ROLLBACK) or when COMMIT failed
     */
    <T> Mono<T> guard(Mono<T> work);

    /**
     * Runs a {@code Flux} under the lock.
     *
     * <p>Items are emitted while the transaction is still open, and the completion after COMMIT: an item is no proof of
     * success. Cancelling, and that is what {@code next()} and {@code take(1)} do, rolls back.
     *
     * @param work subscribed to once the lock is granted, with the hold in its Context; backpressure passes through
     * @param <T> what it emits
     * @return the items of the work; completion after COMMIT succeeded; errors as for {@link #guard(Mono)}
     */
    <T> Flux<T> guard(Flux<T> work);

    /**
     * As {@link #guard(Mono)}, for work that uses the hold: its connection, or its backend's pid.
     *
     * @param work called once the lock is granted
     * @param <T> what it emits
     * @return as for {@link #guard(Mono)}
     */
    <T> Mono<T> guard(Function<? super HeldLock, ? extends Mono<T>> work);

    /**
     * As {@link #guard(Flux)}, for work that uses the hold.
     *
     * @param work called once the lock is granted
     * @param <T> what it emits
     * @return as for {@link #guard(Flux)}
     */
    <T> Flux<T> guardMany(Function<? super HeldLock, ? extends Publisher<T>> work);

    /**
     * Takes the lock and gives it away: from the emission on, ending the hold is the caller's duty, by
     * {@link HeldLock#commit()} or {@link HeldLock#release()}.
     *
     * <p>A cancel before the emission leaves nothing behind. Reactor may drop what was emitted ({@code zip} with a peer that
     * fails does), and a dropped hold lasts until {@link AdvisoryLocks#close()}: where {@code guard} can express it, use that.
     *
     * @return the hold, or an error when the lock could not be had
     */
    Mono<HeldLock> acquire();
}
