package io.r2lock;

import java.time.Duration;
import java.util.Collection;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntFunction;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;
import reactor.pool.InstrumentedPool;
import reactor.pool.PoolBuilder;
import reactor.pool.PooledRef;

/**
 * The pool of lock connections: reactor-pool, and in front of it the rules that keep holders and waiters from starving each
 * other.
 *
 * <ul>
 *   <li>{@code demand} counts what was asked of the pool and is not back yet; {@code settled} counts the part of it that will
 *       not be back soon: holds, waits on the server, and tries that may become holds.
 *   <li>A statement that may block on the server needs one of {@code maxConnections - 1} permits ({@link #mayWaitOnServer}).
 *       Who gets none <em>polls</em>: tries, and gives the connection back when the key is busy. So the last connection is
 *       never spent on a wait.
 *   <li>{@link #borrowNow} never waits for a holder. It is served where {@code demand} leaves room, and refused where all is
 *       {@code settled}. In between, somebody's connection will settle or come back in a moment, a poll's or one that is just
 *       being opened: that is waited for, and who gives a connection back hands it over.
 * </ul>
 */
final class LockConnections {

    private final ClientOptions options;
    private final InstrumentedPool<LockConnection> pool;
    private final Set<LockConnection> open = ConcurrentHashMap.newKeySet();
    private final AtomicInteger demand = new AtomicInteger();
    private final AtomicInteger serverWaits = new AtomicInteger();
    private final int maxConnections;
    private final int mostServerWaits;
    private final AtomicInteger settled = new AtomicInteger();
    private final Queue<Borrow> impatient = new ConcurrentLinkedQueue<>();
    private final AtomicInteger generation = new AtomicInteger();

    /** {@code opener} opens one connection, of the generation that it is given. */
    LockConnections(IntFunction<Mono<LockConnection>> opener, ClientOptions options, int maxConnections) {
        this.options = options;
        this.maxConnections = maxConnections;
        this.mostServerWaits = maxConnections - 1;
        // not on the caller's thread: a connection that is opened on an event loop lives on that loop, and soon all on
        // one;
        // and the first one ever loads native libraries
        this.pool = PoolBuilder.from(Mono.defer(() -> opener.apply(generation.get()))
                        .doOnNext(this::opened)
                        .subscribeOn(Schedulers.boundedElastic()))
                .sizeBetween(0, maxConnections)
                .idleResourceReuseMruOrder()
                .evictionPredicate((connection, metadata) -> isDistrusted(connection))
                .destroyHandler(connection -> Mono.fromRunnable(connection::close))
                .buildPool();
    }

    private void opened(LockConnection connection) {
        open.add(connection);
        connection.closed().subscribe(nothing -> {}, error -> {}, () -> open.remove(connection));
    }

    /** Asks for a connection and waits for it, in turn. */
    void borrow(Borrow borrow) {
        demand.incrementAndGet();
        ask(borrow);
    }

    private void ask(Borrow borrow) {
        if (borrow.asks()) {
            pool.acquire().subscribe(borrow);
        } else {
            ended();
        }
    }

    /** Asks for a connection that is idle, or can be opened, or is about to come back. */
    void borrowNow(Borrow borrow) {
        impatient.add(borrow);
        decideImpatient();
    }

    /** Called after every change that may let in, or refuse, those who do not wait. */
    private void decideImpatient() {
        while (!impatient.isEmpty()) {
            boolean room = reserve();
            if (!room && settled.get() < maxConnections) {
                return;
            }
            Borrow next = impatient.poll();
            if (next == null) {
                if (room) {
                    demand.decrementAndGet();
                }
            } else if (!room) {
                next.exhausted();
            } else if (next.asks()) {
                pool.acquire().subscribe(next);
            } else {
                demand.decrementAndGet();
            }
        }
    }

    private boolean reserve() {
        for (int now = demand.get(); now < maxConnections; now = demand.get()) {
            if (demand.compareAndSet(now, now + 1)) {
                return true;
            }
        }
        return false;
    }

    /** Whether one more statement may block on the server; {@link #waitedOnServer} gives the permit back. */
    boolean mayWaitOnServer() {
        for (int now = serverWaits.get(); now < mostServerWaits; now = serverWaits.get()) {
            if (serverWaits.compareAndSet(now, now + 1)) {
                return true;
            }
        }
        return false;
    }

    void waitedOnServer() {
        serverWaits.decrementAndGet();
    }

    /** A lease will not be back soon. */
    void settles() {
        settled.incrementAndGet();
        decideImpatient();
    }

    /** A pooled connection turned out dead: those that are idle now are closed, not lent, and a fresh one comes next. */
    void distrustIdle() {
        generation.incrementAndGet();
    }

    private boolean isDistrusted(LockConnection connection) {
        return !connection.isUsable() || connection.generation() < generation.get();
    }

    void takeBack(PooledRef<LockConnection> slot, boolean wasSettled) {
        if (wasSettled) {
            settled.decrementAndGet();
        }
        LockConnection connection = slot.poolable();
        if (!isDistrusted(connection)) {
            for (Borrow next = impatient.poll(); next != null; next = impatient.poll()) {
                if (next.take(slot)) {
                    return;
                }
            }
        }
        Mono<Void> back = connection.isUsable() ? slot.release() : slot.invalidate();
        back.subscribe();
        ended();
    }

    void ended() {
        demand.decrementAndGet();
        decideImpatient();
    }

    /** Those that are open, lent or idle. */
    Collection<LockConnection> open() {
        return open;
    }

    /** Closes connections whose server has not answered in time; called once a second. */
    void closeOverdue(long now) {
        for (LockConnection connection : open) {
            connection.closeIfOverdue(now);
        }
    }

    /** Closes all connections; none is lent any more. */
    Mono<Void> close() {
        return pool.disposeLater()
                .thenMany(Flux.defer(() -> Flux.fromIterable(open)).flatMap(LockConnection::closed))
                .then()
                .timeout(Duration.ofSeconds(LockConnection.STOP_DEADLINE_SECONDS), Mono.empty(), options.clock());
    }

    int acquired() {
        return pool.metrics().acquiredSize();
    }

    int pending() {
        return pool.metrics().pendingAcquireSize();
    }

    int allocated() {
        return pool.metrics().allocatedSize();
    }

    /** What was asked of the pool and is not back yet. */
    int demand() {
        return demand.get();
    }

    int serverWaits() {
        return serverWaits.get();
    }

    int settled() {
        return settled.get();
    }

    int maxConnections() {
        return maxConnections;
    }
}
