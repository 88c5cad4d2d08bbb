package io.r2lock;

import java.util.function.Function;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;

/**
 * The election of one leader among all processes that ask for the same key on the same database; made by {@link
 * AdvisoryLocks#leaderElection(LockKey)}.
 *
 * <pre>{@code
 * Flux<Integer> swept = locks.leaderElection(LockKey.named("leader", "sweeper"))
 *         .lead(leadership -> Flux.interval(Duration.ofSeconds(1))
 *                 .onBackpressureDrop()
 *                 .concatMap(tick -> sweep(leadership.term())));
 * }</pre>
 *
 * <p>The leader is who holds the key exclusively, {@linkplain LockRequest#inSession() in session scope}; it is elected by
 * PostgreSQL, from the queue of those that wait for the lock, as soon as the leader's backend ends. There is no lease and no
 * clock, but the guarantee is that of a lock, not more: when its connection is lost, a leader may still run for the moment until
 * it is told, while the next one starts (see {@link HeldLock#lost()} for how long). Where that matters, let what it writes be
 * checked against {@link Leadership#term()}.
 */
public interface LeaderElection {

    /**
     * Campaigns, runs the work while leading, and campaigns again when the leadership was lost.
     *
     * <p>Cold: each subscription is one candidate. What it emits are the items of the work, of one term after the other, with
     * the work's backpressure. At the end of a term:
     *
     * <ul>
     *   <li>The work completed: the lock is released, then the candidate completes. It does so too where the lock turns out to
     *       have been lost by then, which {@link #events()} tells.
     *   <li>The work failed, or could not be called: the lock is released, then the candidate fails with that very error,
     *       whatever its class.
     *   <li>The lock was lost: the work is cancelled, and the candidate campaigns again after a pause. Work that ignores its
     *       cancel, as code that blocks does, goes on meanwhile, and may meet itself.
     *   <li>{@link Leadership#resign()}: the same, after the lock was released.
     * </ul>
     *
     * <p><b>Cancel</b> is safe at every instant: it ends the campaign, or cancels the work and then releases the lock. Do so before
     * {@link AdvisoryLocks#close()}, which else lets a leader go on for its whole grace.
     *
     * <p><b>Errors</b> of campaigning do not end it: a server that cannot be reached, refuses, or has no room is asked again
     * after pauses from 100 ms to 5 s, give or take half, for ever; when that goes on, it is logged at WARN. What ends it are
     * {@link LocksClosedException} once the client is closed (a candidate that pauses learns of it when it asks again), and {@link
     * IllegalArgumentException} or {@link IllegalStateException} where the request or its token is impossible, behind a
     * transaction-mode pooler say.
     *
     * <p><b>Waiting.</b> A candidate waits in the server's queue, in a statement that keeps a snapshot, which holds back vacuum and
     * for which {@code CREATE INDEX CONCURRENTLY} waits; so after {@value Candidate#WAIT_SECONDS} seconds, give or take half, it
     * leaves the queue and enters it anew, at the end. So there is no order among candidates. Candidates of one client wait for
     * each other in memory.
     *
     * <p><b>Connections</b>: to wait for the server, and to lead after that, takes one of {@link
     * AdvisoryLocks.Builder#waitingConnections(int)} for each key. Let there be as many as a client has elections: a candidate
     * that finds none asks again every 250 ms, which is slower. A leader has no transaction open, and {@link
     * AdvisoryLocks.Builder#holdWarning(java.time.Duration)} does not count for it. Within another hold a candidate behaves as any
     * request there, and ends with that.
     *
     * @param work called at the beginning of each term, with the hold in its Context, where guarded work would be subscribed to
     *     (see {@link AdvisoryLocks.Builder#workScheduler}); it must not return {@code null}
     * @param <T> what it emits
     * @return the items of the work
     * @throws IllegalArgumentException when {@code work} is {@code null}
     */
    <T> Flux<T> lead(Function<? super Leadership, ? extends Publisher<T>> work);

    /**
     * Tells what happens to the candidates of this object; others, in this process or elsewhere, are not seen.
     *
     * <p>Hot: from the subscription on, on a thread of {@code Schedulers.parallel()}. Each subscriber has a buffer of {@value
     * LeadershipEvents#BUFFER} events; one that falls behind by more is told so by an error, after what was buffered. So nobody
     * loses an event unknowingly, and nobody holds up an election. It never completes. A cancel ends the subscription only. Of one
     * candidate, each {@code ELECTED} is followed by one {@code LOST} or {@code RESIGNED}.
     *
     * @return the events
     */
    Flux<LeadershipEvent> events();
}
