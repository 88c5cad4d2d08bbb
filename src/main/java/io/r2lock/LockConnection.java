package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Wrapped;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.IntConsumer;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.core.scheduler.Scheduler;

/**
 * One connection of the pool of lock connections, with what was learned when it was opened. The wire; knows no gates.
 *
 * <p>Used by one borrower at a time. What it must not be reused for is told by {@link #isUsable()}: the connection closed by
 * itself, was closed here because something about it was in doubt, or could not be cleaned.
 */
final class LockConnection implements Watched {

    private static final Logger LOG = LoggerFactory.getLogger(LockConnection.class);

    /** A statement of ours that takes longer has met a dead server or network: ROLLBACK, or the end of a cancelled wait. */
    static final long STOP_DEADLINE_SECONDS = 3;

    /** A COMMIT may have to run deferred triggers and to wait for replicas. */
    static final long COMMIT_DEADLINE_SECONDS = 30;

    private static final long NONE = Long.MAX_VALUE;

    /** Who relies on the connection's backend, or on the transaction that it is in. */
    interface Holder {
        /** The backend, the connection or the transaction is gone; may be told more than once, and from any thread. */
        void lose(String why);

        /** Whether the transaction that the backend is in has to stay the same. */
        default boolean inTransaction() {
            return false;
        }
    }

    private final PostgresqlConnection wire;
    private final ConnectionFacts facts;
    private final Supplier<String> clean;
    private final Scheduler clock;
    private final Warnings warnings;
    private final int generation;
    private final AtomicBoolean closing = new AtomicBoolean();
    private final Sinks.Empty<Void> closed = Sinks.empty();

    /** Cleared when the connection must not be used again. */
    private volatile boolean usable = true;

    /** User statements have run since the last cleaning. */
    private volatile boolean dirty;

    /** When {@link #closeIfOverdue} gives the statement in flight up, and who is told then. */
    private final AtomicLong overdueAt = new AtomicLong(NONE);

    private volatile Runnable overdue = LockConnection::tellNobody;

    private volatile @Nullable Holder holder;

    /** As the last statement that read it said; behind a pooler each transaction has another one. */
    private volatile int pid;

    LockConnection(
            PostgresqlConnection wire,
            ConnectionFacts facts,
            Supplier<String> clean,
            Warnings warnings,
            int generation) {
        this.wire = wire;
        this.facts = facts;
        this.pid = facts.pid();
        this.clean = clean;
        this.clock = warnings.clock();
        this.warnings = warnings;
        this.generation = generation;
        // the only sign of a connection that closes while idle, and it costs no statement
        wire.getNotifications().subscribe(ignored -> {}, error -> hasClosed(), this::hasClosed);
    }

    private void hasClosed() {
        usable = false;
        Holder relies = holder;
        if (relies != null) {
            // elsewhere, because the holder's own code runs then, which may block this event loop
            Losses.tell(() -> relies.lose("its connection closed"));
        }
    }

    /** From now on the borrower is told when the transaction is lost, which may be at once. */
    void heldBy(Holder relies) {
        holder = relies;
        if (!usable) {
            relies.lose("its connection closed");
        }
    }

    /** For a wait: closing the connection answers it. What is told late must not hit who has the connection by then. */
    void closeWhenLost() {
        heldBy(new Holder() {
            @Override
            public void lose(String why) {
                if (holder == this) {
                    close();
                }
            }
        });
    }

    /** Nobody relies on it any more; the borrower's last call. */
    void letGo() {
        holder = null;
    }

    @Override
    public @Nullable Holder holder() {
        return holder;
    }

    private static void tellNobody() {
        // closing the connection answers what was in flight
    }

    @Override
    public int pid() {
        return pid;
    }

    @Override
    public @Nullable Scheduler loop() {
        return loopOf(wire);
    }

    /** Its event loop, where the driver tells: since 1.0.7. */
    static @Nullable Scheduler loopOf(PostgresqlConnection wire) {
        return wire instanceof Wrapped<?> wrapper ? wrapper.unwrap(Scheduler.class) : null;
    }

    @Override
    public boolean isPooled() {
        return facts.pooled();
    }

    @Override
    public long backendStart() {
        return facts.backendStart();
    }

    ConnectionFacts facts() {
        return facts;
    }

    ConnectionFacts.Limits limits() {
        return facts.limits();
    }

    /** How often the client had begun to distrust its connections when this one was opened. */
    int generation() {
        return generation;
    }

    /** For user statements; marks the connection as one to be cleaned. */
    PostgresqlConnection forUser() {
        dirty = true;
        return wire;
    }

    PostgresqlConnection wire() {
        return wire;
    }

    boolean isUsable() {
        return usable;
    }

    /** Whether the server said, at the end of the last message, that a transaction is open or has failed. */
    boolean isInTransaction() {
        return !wire.isAutoCommit();
    }

    void send(String sql, Exchange.Listener listener) {
        Exchange.send(wire, sql, listener);
    }

    /** As {@link #ask}, for statements that say beside which backend it was. */
    void askWithPid(String sql, Exchange.Listener listener) {
        ask(sql, number -> pid = number, listener);
    }

    void ask(String sql, IntConsumer numbers, Exchange.Listener listener) {
        Exchange.ask(wire, sql, numbers, listener);
    }

    void ask(String sql, Exchange.Listener listener) {
        Exchange.ask(wire, sql, listener);
    }

    /**
     * COMMIT by the driver: a raw one of a failed transaction would answer ROLLBACK without an error.
     *
     * <p>After user statements {@code check} goes first, in a message of its own but without waiting for its answer: when it
     * fails the transaction has failed, and COMMIT is answered by ROLLBACK. {@code cleaned} is told when the cleaning is answered,
     * at once where there is none.
     */
    void commit(Supplier<String> check, Exchange.Listener checked, Exchange.Listener committed, Runnable cleaned) {
        mustEndWithin(COMMIT_DEADLINE_SECONDS, LockConnection::tellNobody);
        if (dirty) {
            Exchange.send(wire, check.get(), checked);
        }
        Exchange.run(wire.commitTransaction(), whenInTime(committed));
        cleanIfDirty(cleaned);
    }

    /** A raw ROLLBACK: the driver's own is skipped where its idea of the transaction lags behind. */
    void rollback(Exchange.Listener listener) {
        rollback(listener, LockConnection::tellNobody);
    }

    void rollback(Exchange.Listener listener, Runnable cleaned) {
        mustEndWithin(STOP_DEADLINE_SECONDS, LockConnection::tellNobody);
        Exchange.send(wire, LockSql.ROLLBACK, whenInTime(listener));
        cleanIfDirty(cleaned);
    }

    /** Asks the server, over a connection of its own, to cancel what this connection's backend is doing. */
    void cancelRequest(Runnable ended) {
        Exchange.run(Mono.defer(wire::cancelRequest).retry(1), (error, yes) -> {
            if (error != null) {
                // it may still arrive, and would hit the next borrower's statement
                LOG.debug("The CancelRequest for backend {} failed; its connection is closed", pid(), error);
                close();
            }
            ended.run();
        });
    }

    /** From now on {@link #closeIfOverdue} closes the connection after so long, which ends whatever is in flight. */
    long mustEndWithin(long seconds, Runnable whenOverdue) {
        long limit = clock.now(TimeUnit.NANOSECONDS) + TimeUnit.SECONDS.toNanos(seconds);
        overdue = whenOverdue;
        overdueAt.set(limit);
        return limit;
    }

    /** What had this limit has ended; a later limit, of something else, stays. */
    void inTime(long limit) {
        overdueAt.compareAndSet(limit, NONE);
    }

    void inTime() {
        overdueAt.set(NONE);
    }

    void closeIfOverdue(long now) {
        long limit = overdueAt.get();
        if (limit != NONE && now - limit > 0 && overdueAt.compareAndSet(limit, NONE)) {
            warnings.warn(
                    "Backend " + pid() + " did not answer within its deadline. Its connection is closed, which ends its"
                            + " transaction and its locks as soon as the server notices. Check the server and the network to it.");
            close();
            overdue.run();
        }
    }

    /** In doubt, or no longer needed; idempotent. */
    void close() {
        usable = false;
        if (closing.compareAndSet(false, true)) {
            Exchange.run(wire.close(), (error, yes) -> {
                if (error != null) {
                    LOG.debug("Closing the connection of backend {} failed", pid(), error);
                }
                closed.tryEmitEmpty();
            });
        }
    }

    /** Completes when the socket is closed. */
    Mono<Void> closed() {
        return closed.asMono();
    }

    private Exchange.Listener whenInTime(Exchange.Listener listener) {
        return (error, yes) -> {
            inTime();
            listener.ended(error, yes);
        };
    }

    /**
     * Sent right behind the end of the transaction, without waiting for that, and the next borrower's statement right behind
     * this: so nobody waits a round trip for it. The server answers in order, so a failure is known before that statement is.
     */
    private void cleanIfDirty(Runnable cleaned) {
        String statements = dirty ? clean.get() : "";
        dirty = false;
        if (statements.isEmpty()) {
            cleaned.run();
            return;
        }
        Exchange.send(wire, statements, (error, yes) -> {
            if (error != null && usable) {
                LOG.debug("Cleaning the connection of backend {} failed; it is closed", pid(), error);
                close();
            }
            cleaned.run();
        });
    }
}
