package io.r2lock;

import io.r2dbc.spi.ConnectionFactory;
import java.time.Duration;
import java.util.Collection;
import java.util.function.Function;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * PostgreSQL advisory locks for reactive code: borrows a connection, opens a transaction, takes the lock, runs your
 * publisher, commits.
 *
 * <pre>{@code
 * AdvisoryLocks locks = AdvisoryLocks.create(connectionFactory);
 *
 * Mono<Receipt> receipt = locks.withAdvisoryLock(LockKey.named("order", orderId), chargeOnce(orderId));
 * }</pre>
 *
 * <p>Make one for each database and keep it: it owns a small pool of connections, which it opens on demand. Safe to use from
 * any thread. {@link LockRequest} says what holds for every publisher made here: cancel, errors, connections, nesting.
 *
 * @see LockRequest
 */
public interface AdvisoryLocks {

    /** The most permits of one key, see {@link #permit(LockKey, int)}. */
    int MOST_PERMITS = 1_000;

    /**
     * Makes a client with every option at its default. Opens no connection yet.
     *
     * @param connectionFactory as for {@link #builder(ConnectionFactory)}
     * @return a new client
     * @throws IllegalArgumentException as {@link #builder(ConnectionFactory)} does
     */
    static AdvisoryLocks create(ConnectionFactory connectionFactory) {
        return builder(connectionFactory).build();
    }

    /**
     * Starts to make a client.
     *
     * @param connectionFactory of r2dbc-postgresql, or a wrapper around one such as r2dbc-pool's {@code ConnectionPool} or
     *     Spring's proxies: the driver's own factory within is what is used, because lock connections must not come from the
     *     pool that the guarded work borrows from
     * @return a builder with every option at its default
     * @throws IllegalArgumentException when there is no r2dbc-postgresql factory within
     */
    static Builder builder(ConnectionFactory connectionFactory) {
        return new ClientBuilder(connectionFactory);
    }

    /**
     * Runs a {@code Mono} under an exclusive lock: {@code exclusive(key).guard(work)}.
     *
     * @param key what to lock
     * @param work subscribed to once the lock is granted
     * @param <T> what it emits
     * @return the value of the work, emitted after COMMIT succeeded
     * @see LockRequest#guard(Mono)
     */
    <T> Mono<T> withAdvisoryLock(LockKey key, Mono<T> work);

    /**
     * Runs a publisher under an exclusive lock. A {@code Mono} typed as {@code Publisher} is treated as a {@code Mono}: its
     * value is emitted after COMMIT.
     *
     * @param key what to lock
     * @param work subscribed to once the lock is granted
     * @param <T> what it emits
     * @return the items of the work, while the transaction is open; completion after COMMIT succeeded
     * @see LockRequest#guard(Flux)
     */
    <T> Flux<T> withAdvisoryLock(LockKey key, Publisher<T> work);

    /**
     * As {@link #withAdvisoryLock(LockKey, Mono)}, without waiting: {@code exclusive(key).noWait().guard(work)}.
     *
     * @param key what to lock
     * @param work subscribed to once the lock is granted
     * @param <T> what it emits
     * @return the value of the work, or {@link LockNotAvailableException} when the key is busy
     */
    <T> Mono<T> tryWithAdvisoryLock(LockKey key, Mono<T> work);

    /**
     * As {@link #withAdvisoryLock(LockKey, Publisher)}, without waiting.
     *
     * @param key what to lock
     * @param work subscribed to once the lock is granted
     * @param <T> what it emits
     * @return the items of the work, or {@link LockNotAvailableException} when the key is busy
     */
    <T> Flux<T> tryWithAdvisoryLock(LockKey key, Publisher<T> work);

    /**
     * Asks for an exclusive lock: no other hold of any of the keys, exclusive or shared, overlaps with it.
     *
     * @param key what to lock
     * @param more further keys: all are granted, or none; taken in one order everywhere, so that two such requests never
     *     deadlock each other
     * @return a request with the default wait
     */
    LockRequest exclusive(LockKey key, LockKey... more);

    /**
     * As {@link #exclusive(LockKey, LockKey...)}.
     *
     * @param keys at least one; repetitions count once
     * @return a request with the default wait
     */
    LockRequest exclusive(Collection<LockKey> keys);

    /**
     * Asks for a shared lock: no exclusive hold of any of the keys overlaps with it.
     *
     * @param key what to lock
     * @param more further keys, all or none
     * @return a request with the default wait
     */
    LockRequest shared(LockKey key, LockKey... more);

    /**
     * As {@link #shared(LockKey, LockKey...)}.
     *
     * @param keys at least one; repetitions count once
     * @return a request with the default wait
     */
    LockRequest shared(Collection<LockKey> keys);

    /**
     * Asks for one of so many permits of a key: a semaphore over all processes, of which at most {@code permits} holds exist at once,
     * wherever they are. The request has the same ends as a lock's: {@code guard}, {@code guardMany}, {@code acquire}; its work, its
     * cancel, its loss and its errors are those of {@link LockRequest#inSession()}, where it is from the start: {@link
     * LockRequest#inTransaction()} is refused with an {@link IllegalArgumentException}. The hold tells the key asked for, and {@link
     * LockMode#EXCLUSIVE}.
     *
     * <pre>{@code
     * Flux<Receipt> receipts = orders.flatMap(
     *         order -> locks.permit(LockKey.named("payment", "provider"), 4).guard(chargeOnce(order)));
     * }</pre>
     *
     * <p>A permit is a lock on one of so many numbers made of the key, and never meets {@code exclusive(key)}: each may be held while
     * the other is. <b>The number must be the same everywhere</b>: processes that disagree share the permits of the smaller number, and
     * those who ask for more have the rest for themselves. Within one client a request with another number fails with an {@link
     * IllegalStateException} at its subscription, as long as anybody there has a permit of the key or waits for one.
     *
     * <p><b>Waiting.</b> Callers of one client are served in order, those first who ask inside another hold; a holder passes its permit
     * on to the next of them, at most {@link Builder#handOffLimit(int)} times in a row. Between processes there is <b>no order</b>:
     * PostgreSQL has no queue for "any of these", so a client whose callers wait tries all permits that it does not have itself, in
     * random order, after 10 ms at first and 250 ms at last, give or take half; under contention another process may be lucky more
     * often. A round of tries takes a round trip for each permit in use elsewhere, so keep the number small where many processes wait.
     * {@code noWait} makes one such round, and is refused when each permit was in use at some moment of it, or was wanted by callers
     * before it.
     *
     * <p><b>Connections</b>: those of {@link Builder#sessionConnections(int)}, shared with all holds of session scope; none for a
     * waiter, however many there are. <b>Cancel</b> and timeout leave nothing behind: a try on its way is waited for, and what it
     * got is given back first. When a process dies its permits are free, and the others stay as they are.
     *
     * <p>Inside another hold the wait must be bounded, or the request fails with an {@link IllegalArgumentException}; inside a permit
     * of the same key and number it joins that, as a lock would.
     *
     * @param key what is counted
     * @param permits how many, from 1 to {@value #MOST_PERMITS}
     * @return a request with the default wait
     */
    LockRequest permit(LockKey key, int permits);

    /**
     * Makes an election of one leader among all processes that ask for this key. Takes nothing yet: {@link LeaderElection#lead}
     * does.
     *
     * @param key what is led; nothing else should lock it
     * @return an election, whose {@link LeaderElection#events()} tell of its own candidates
     * @throws IllegalArgumentException when {@code key} is {@code null}
     */
    LeaderElection leaderElection(LockKey key);

    /**
     * Runs work for each item of a stream under that item's lock: items that have a key in common one after another, in the order in
     * which they come, others side by side.
     *
     * <pre>{@code
     * Flux<Receipt> receipts = locks.flatMapLocked(
     *         orders,
     *         order -> locks.exclusive(LockKey.named("order", order)).inSession(),
     *         order -> chargeOnce(order),
     *         256);
     * }</pre>
     *
     * <p><b>Order.</b> An item begins when all earlier ones that share a key with it have ended, whichever their modes are; between
     * processes there is no order. What it emits comes in the order in which holds end, and so in the order of the source for each key.
     *
     * <p><b>Values</b> of an item are emitted when its hold has ended, in transaction scope after COMMIT, so that what is acknowledged
     * downstream has happened: they are collected until then, so an item should not have very many.
     *
     * <p><b>Look-ahead and backpressure.</b> At most {@code concurrency} works run, or wait for their lock; items that wait for an
     * earlier one of their key take none of these places. Whatever the demand, the source is asked for four times {@code concurrency}
     * items ahead; one leaves that window, and the next is asked for, when its values were taken. So a subscriber that takes nothing
     * stops the stream, and a key that is slow and frequent fills the window and slows the others to its pace.
     *
     * <p>The next item of a key may queue at the gate of this process while the one before it runs, so that the lock passes on without
     * the server; its work still begins only after the other has ended well. This is not done inside a hold, with {@link
     * Builder#maxWaiters(int)} or {@link Builder#ambientTransaction(AmbientTransaction)}, nor for requests that have several keys, are
     * shared, or do not wait for ever.
     *
     * <p>With {@link LockRequest#holdAtLeast} the values of an item are emitted when its work ends, and the next item of its key waits for
     * the rest of its time, or finds the key busy if it does not wait. A {@link #permit} given here is taken for one item of its key at a time, as any lock; for so many at once use
     * {@code flatMap} with {@code permit(…).guard(…)}.
     *
     * <p>Cold: each subscription subscribes to the source. <b>Errors</b> of the source, of {@code lockOf}, of a work or of its lock end
     * it at once: the source and what runs are cancelled, values that were not taken are discarded, nothing stays held. What had ended
     * before has happened. <b>Cancel</b> does the same. An item whose request skips when busy emits nothing then. <b>Connections</b>: as
     * for so many single requests at once; give transaction scope {@link Builder#maxConnections(int)} to match. The Context of the
     * subscriber is that of the source and of the works, which have their hold in it too.
     *
     * @param source the items
     * @param lockOf what to lock for an item: a request of this client, with one key or more; called once for each item, when it comes
     * @param work what to do under the lock; called once the lock is granted
     * @param concurrency how many works may run at once, from 1 to 65,536
     * @param <R> what the source emits
     * @param <V> what the works emit
     * @return the values of all works; completes when the source has and every hold has ended; errors with {@link
     *     IllegalArgumentException} when {@code lockOf} returns anything but a request of this client
     */
    <R, V> Flux<V> flatMapLocked(
            Publisher<R> source,
            Function<? super R, LockRequest> lockOf,
            Function<? super R, ? extends Publisher<V>> work,
            int concurrency);

    /**
     * Looks at the server, and at what stands between it and this client: does it really exclude, is it a standby, does a
     * pooler give each transaction another server process, how many locks has it room for. A client looks so by itself before
     * its first lock, and refuses what cannot work; this says the rest, for a health check or a support ticket.
     *
     * <p>Cold: each subscription looks anew. It opens two connections beside the client's own and closes them, takes one key
     * that nobody else has for an instant, and ends within {@link Builder#connectTimeout(Duration)}. A cancel lets it end in
     * the background.
     *
     * @return what was found; {@link LockServerException} when the server cannot be asked
     */
    Mono<SelfCheck> selfCheck();

    /**
     * Shows who holds the advisory locks of this database, of whatever client, who waits for them, and for whom: what the server
     * says, with the names that this client knows, and the callers that wait in this client only.
     *
     * <pre>{@code
     * Flux<String> stuck =
     *         locks.inspect().filter(lock -> !lock.blockedBy().isEmpty()).map(LockInfo::toString);
     * }</pre>
     *
     * <p>Cold: each subscription looks anew, at the server first and at this client right after. It opens a connection beside the
     * client's own, which may all be in use, closes it before the first entry, and ends within {@link
     * Builder#connectTimeout(Duration)}. A cancel lets it end in the background. Signals come on a thread that may block. Works
     * behind poolers and on a standby, too; not on a server that lets no connection in, as one whose lock table is full.
     *
     * @return the entries by key, of each those that hold it, that wait on the server, and that wait here; {@link
     *     LockServerException} when the server cannot be asked, {@link LocksClosedException} after {@link #close()}; no keys in both
     */
    Flux<LockInfo> inspect();

    /**
     * Ends this client: requests that wait, and new ones, fail with {@link LocksClosedException}; holds may end by
     * themselves for {@link Builder#closeGrace(Duration)}, then they are rolled back and told the same; then the connections
     * are closed.
     *
     * <p>Cold and idempotent: closing starts at the first subscription. A cancel does not stop it. Spring calls it, and waits
     * for it, when a bean of this type is destroyed.
     *
     * @return completes when every connection is closed
     */
    Mono<Void> close();

    /**
     * The options of a client. A bad value is refused at once with an {@link IllegalArgumentException} that names it.
     *
     * <p>Not safe to share between threads while it is being configured.
     */
    interface Builder extends ConnectionOptions, HoldOptions {

        /**
         * Makes the client. Opens no connection yet.
         *
         * @return a new client
         * @throws IllegalArgumentException when the server would give up a silent holder before the holder knows: {@code
         *     min(tcp_keepalives_interval × tcp_keepalives_count, tcp_user_timeout − tcp_keepalives_idle)} must be at least
         *     {@code heartbeat + heartbeatDeadline + 1 s}; 8 s, unless {@link #connectionSetting} changed them
         */
        AdvisoryLocks build();
    }
}
