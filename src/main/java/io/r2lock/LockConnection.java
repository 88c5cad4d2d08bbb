package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
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
final class LockConnection {

    private static final Logger LOG = LoggerFactory.getLogger(LockConnection.class);

    /** A statement of ours that takes longer has met a dead server or network: ROLLBACK, or the end of a cancelled wait. */
    static final long STOP_DEADLINE_SECONDS = 3;

    /** A COMMIT may have to run deferred triggers and to wait for replicas. */
    static final long COMMIT_DEADLINE_SECONDS = 30;

    private static final long NONE = Long.MAX_VALUE;

    /** The limits of the role, in the server's own notation, which the lock's statement must restore. */
    record Limits(String lockTimeout, String statementTimeout) {

        boolean areOff() {
            return lockTimeout.equals("0") && statementTimeout.equals("0");
        }
    }

    /** What the set-up statement read. */
    record Facts(int pid, String encoding, Limits limits) {}

    private final PostgresqlConnection wire;
    private final Facts facts;
    private final String clean;
    private final Scheduler clock;
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

    LockConnection(PostgresqlConnection wire, Facts facts, String clean, Scheduler clock, int generation) {
        this.wire = wire;
        this.facts = facts;
        this.clean = clean;
        this.clock = clock;
        this.generation = generation;
        // the only sign of a connection that closes while idle, and it costs no statement
        wire.getNotifications().subscribe(ignored -> {}, error -> usable = false, () -> usable = false);
    }

    private static void tellNobody() {
        // closing the connection answers what was in flight
    }

    int pid() {
        return facts.pid();
    }

    String encoding() {
        return facts.encoding();
    }

    Limits limits() {
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

    void ask(String sql, Exchange.Listener listener) {
        Exchange.ask(wire, sql, listener);
    }

    /** COMMIT by the driver: a raw one of a failed transaction would answer ROLLBACK without an error. */
    void commit(Exchange.Listener listener) {
        mustEndWithin(COMMIT_DEADLINE_SECONDS, LockConnection::tellNobody);
        Exchange.run(wire.commitTransaction(), whenInTime(listener));
        cleanIfDirty();
    }

    /** A raw ROLLBACK: the driver's own is skipped where its idea of the transaction lags behind. */
    void rollback(Exchange.Listener listener) {
        mustEndWithin(STOP_DEADLINE_SECONDS, LockConnection::tellNobody);
        Exchange.send(wire, LockSql.ROLLBACK, whenInTime(listener));
        cleanIfDirty();
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
    void mustEndWithin(long seconds, Runnable whenOverdue) {
        overdue = whenOverdue;
        overdueAt.set(clock.now(TimeUnit.NANOSECONDS) + TimeUnit.SECONDS.toNanos(seconds));
    }

    void inTime() {
        overdueAt.set(NONE);
    }

    void closeIfOverdue(long now) {
        long limit = overdueAt.get();
        if (limit != NONE && now - limit > 0 && overdueAt.compareAndSet(limit, NONE)) {
            LOG.warn(
                    "Backend {} did not answer within its deadline. Its connection is closed, which ends its transaction and"
                            + " its locks as soon as the server notices. Check the server and the network to it.",
                    pid());
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
    private void cleanIfDirty() {
        if (!dirty) {
            return;
        }
        dirty = false;
        Exchange.send(wire, clean, (error, yes) -> {
            if (error != null && usable) {
                LOG.debug("Cleaning the connection of backend {} failed; it is closed", pid(), error);
                close();
            }
        });
    }
}
