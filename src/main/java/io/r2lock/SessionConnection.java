package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.R2dbcTimeoutException;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;
import reactor.util.concurrent.Queues;

/**
 * Many session locks on one connection: what arrives while a message is in flight shares the next one. The wire; knows no
 * gates and no holds.
 *
 * <pre>
 *   OPEN ⇄ RECONCILING     after a message has failed, see {@link Reconciliation}
 *     └──────┴──▶ ENDED    closed, dead or in doubt: its locks end with the backend
 * </pre>
 *
 * <p>Calls come from any thread, into a queue. One drain at a time, on the connection's event loop, does everything else: it
 * reads the answers of ended messages, tells the callers, takes in what has arrived, and sends. What a caller asks for when it
 * is told goes into the message that the same pass sends, so busy callers share messages without waiting for each other; a
 * caller who finds the connection idle has a message of its own, at once.
 *
 * <p>Invariants: at most two messages are in flight, and one while calls are repeated or the locks are reconciled; no key stands
 * in both ({@link SessionClaims}); every call is told once; all listeners are told by the drain, so the grant of a lock comes
 * before its loss; after the end nothing is sent.
 */
final class SessionConnection {

    /** Is told what nobody asked for. */
    interface Listener {
        /** The session no longer holds this lock, though nobody gave it back. */
        void lost(LockKey key, LockMode mode);

        /** The connection has ended, and with it every lock that it held. Called once, before the calls that it leaves unanswered fail. */
        void ended(Throwable why);
    }

    private static final Logger LOG = LoggerFactory.getLogger(SessionConnection.class);

    private final PostgresqlConnection wire;
    private final int pid;
    private final Drain drain;
    private final Listener listener;
    private final Queue<SessionCall> arrived =
            Queues.<SessionCall>unboundedMultiproducer().get();
    private final AtomicReference<@Nullable Throwable> endsFor = new AtomicReference<>();
    private final Sinks.Empty<Void> closed = Sinks.empty();
    private volatile boolean deadlineMet;
    private volatile boolean probed;

    private final SessionClaims claims = new SessionClaims();
    private final Reconciliation doubt = new Reconciliation(claims);
    private final SessionQueue queue = new SessionQueue();
    private final TokenCalls tokens = new TokenCalls();
    private final BatchFlight flight;
    /** Written by the drain. */
    private volatile boolean ended;

    SessionConnection(PostgresqlConnection wire, int pid, Scheduler clock, Listener listener) {
        this.wire = wire;
        this.pid = pid;
        this.listener = listener;
        this.drain = new Drain(loopOf(wire), this::pass, this::failed);
        this.flight = new BatchFlight(wire, clock, drain::signal, this::meetDeadline);
        // the only sign of a connection that closes while idle, and it costs no statement
        wire.getNotifications().subscribe(ignored -> {}, this::broken, () -> broken(closedError()));
    }

    /** Sending from another thread would hop to the event loop in the driver anyway. */
    private static Scheduler loopOf(PostgresqlConnection wire) {
        Scheduler loop = LockConnection.loopOf(wire);
        return loop == null ? Schedulers.immediate() : loop;
    }

    int pid() {
        return pid;
    }

    /** Takes a lock if that is free; never waits for one. */
    void lock(LockKey key, LockMode mode, SessionCall.Listener caller) {
        arrived.offer(new SessionCall(false, key, mode, caller));
        drain.schedule();
    }

    /** Gives back a lock that was granted. */
    void unlock(LockKey key, LockMode mode, SessionCall.Listener caller) {
        arrived.offer(new SessionCall(true, key, mode, caller));
        drain.schedule();
    }

    /** Has the session assigned an id, which it does while it holds what it was granted before. */
    void token(boolean durable, TokenCall caller) {
        tokens.add(durable, caller);
        drain.schedule();
    }

    /** Finds out in time whether the server still answers, where no call does. */
    void probe() {
        probed = true;
        drain.schedule();
    }

    /** In doubt, or no longer needed; every lock ends with the backend. */
    void close() {
        endsFor.compareAndSet(null, closedError());
        drain.schedule();
    }

    /** Completes when the socket is closed. */
    Mono<Void> closed() {
        return closed.asMono();
    }

    private IllegalStateException closedError() {
        return new IllegalStateException("the connection of backend " + pid + " was closed");
    }

    private void broken(Throwable why) {
        endsFor.compareAndSet(null, why);
        drain.signal();
    }

    private void meetDeadline() {
        deadlineMet = true;
        drain.schedule();
    }

    private void failed(Throwable thrown) {
        endsFor.compareAndSet(null, thrown);
        finish(thrown);
    }

    private void pass() {
        takeAnswers();
        takeArrived();
        if (deadlineMet) {
            deadlineMet = false;
            if (flight.isOverdue()) {
                giveUp();
            }
        }
        Throwable why = endsFor.get();
        if (why != null) {
            finish(why);
        } else {
            send();
        }
    }

    private void takeAnswers() {
        for (LockBatch batch = flight.takeOver(); batch != null; batch = flight.takeOver()) {
            Throwable error = batch.error();
            if (error != null && (!tokens.isMessage(batch) || SqlStates.isConnectionGone(SqlStates.of(error)))) {
                failed(batch, error);
            } else if (tokens.isMessage(batch)) {
                tokens.answered(batch);
            } else if (doubt.isUnderWay()) {
                doubt.answered(batch, this::lose);
            } else {
                List<SessionCall> calls = batch.calls();
                for (int i = 0; i < calls.size(); i++) {
                    answer(calls.get(i), calls.get(i).answer(), null);
                }
            }
        }
        if (doubt.isDone()) {
            reconciled();
        }
    }

    private void failed(LockBatch batch, Throwable error) {
        if (doubt.isUnderWay() || SqlStates.isConnectionGone(SqlStates.of(error))) {
            endsFor.compareAndSet(null, error);
            return;
        }
        LOG.debug(
                "A message with {} session lock calls failed on backend {}",
                batch.calls().size(),
                pid,
                error);
        doubt.doubt(batch, error);
    }

    private void reconciled() {
        Throwable error = doubt.error();
        List<SessionCall> calls = doubt.finish();
        for (SessionCall call : calls) {
            if (call.isUnlock()) {
                boolean wasMissing = Boolean.FALSE.equals(call.said);
                answer(call, wasMissing ? SessionCall.Answer.NOT_HELD : SessionCall.Answer.RELEASED, null);
            } else if (calls.size() == 1) {
                answer(call, SessionCall.Answer.FAILED, error);
            } else {
                queue.repeat(call);
            }
        }
    }

    private void takeArrived() {
        tokens.takeArrived();
        for (SessionCall call = arrived.poll(); call != null; call = arrived.poll()) {
            if (ended) {
                call.tell(SessionCall.Answer.FAILED, endsFor.get());
            } else if (claims.isFirst(call)) {
                admit(call);
            }
        }
    }

    private void answer(SessionCall call, SessionCall.Answer answer, @Nullable Throwable error) {
        SessionCall next = claims.answered(call, answer);
        call.tell(answer, error);
        if (next != null) {
            admit(next);
        }
    }

    /** The call is the current one of its key: queues it, and answers it, and those behind it, where no server is needed. */
    private void admit(SessionCall admitted) {
        for (SessionCall call = admitted; call != null; ) {
            SessionCall.Answer known = claims.knownAnswer(call);
            if (known == null) {
                queue.add(call);
                return;
            }
            SessionCall next = claims.answered(call, known);
            call.tell(known, null);
            call = next;
        }
    }

    private void send() {
        if (probed) {
            probed = false;
            if (flight.isQuiet() && queue.isEmpty() && doubt.isCertain()) {
                flight.probe();
            }
        }
        if (!doubt.isCertain()) {
            if (flight.isQuiet()) {
                flight.send(doubt.next());
            }
            return;
        }
        if (tokens.isWaiting() && !queue.isAlone() && !flight.isFull()) {
            tokens.send(flight);
        }
        while (!queue.isEmpty() && (queue.isAlone() ? flight.isQuiet() : !flight.isFull())) {
            flight.send(queue.next(flight.isQuiet()));
        }
    }

    private void giveUp() {
        String what = "backend " + pid + " did not answer within its deadline";
        LOG.warn(
                "{}: its connection is closed, and all session locks on it end as soon as the server notices. Check the server"
                        + " and the network to it.",
                what);
        endsFor.compareAndSet(null, new R2dbcTimeoutException(what));
    }

    private void lose(LockKey key, LockMode mode) {
        SessionCall.tell(() -> listener.lost(key, mode));
    }

    private void finish(Throwable why) {
        if (ended) {
            tokens.fail(why);
            return;
        }
        ended = true;
        Exchange.run(wire.close(), (error, yes) -> closed.tryEmitEmpty());
        flight.clear();
        queue.clear();
        List<SessionCall> unanswered = claims.clear();
        SessionCall.tell(() -> listener.ended(why));
        for (SessionCall call : unanswered) {
            call.tell(SessionCall.Answer.FAILED, why);
        }
        tokens.fail(why);
    }

    /** Nothing is sent any more; so when the first of those is told whom that concerns. */
    boolean hasEnded() {
        return ended;
    }

    /** For tests, and at rest only. */
    SessionClaims claims() {
        return claims;
    }
}
