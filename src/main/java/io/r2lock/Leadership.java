package io.r2lock;

import reactor.core.publisher.Mono;

/**
 * One term of a leader, which {@link LeaderElection#lead} gives to its work.
 *
 * <p>Safe to use from any thread, also after the term.
 */
public interface Leadership {

    /**
     * The number of this term: greater than that of every earlier term of the key. What the leader writes can carry it, and then
     * a leader that does not know yet that it was replaced is refused.
     *
     * @return the fencing token of the lock, as {@link HeldLock#fencingToken()} tells it
     */
    FencingToken term();

    /**
     * Tells that the term ended against the will of its leader. The work is cancelled then in any case; this is for what runs
     * beside it.
     *
     * <p>Hot: it tells every subscriber the same, also those that come late. A cancel ends the subscription only.
     *
     * @return errors with {@link LockLostException} when the lock was lost, with {@link LocksClosedException} when the client was
     *     closed; completes when the leader stepped down
     */
    Mono<Void> lost();

    /**
     * Steps down: cancels the work, then releases the lock, and after a pause of {@value Candidate#PAUSE_MILLIS} to 750 ms
     * campaigns again. So another candidate is elected, if there is one; this one stays a candidate until the
     * subscription to {@link LeaderElection#lead} is cancelled.
     *
     * <p>Cold and idempotent: the term ends once, at the first subscription. A cancel is ignored. The work itself may call it,
     * and is cancelled by that.
     *
     * @return completes when the lock is released, or was lost; at once when the term had ended before; never errors
     */
    Mono<Void> resign();
}
