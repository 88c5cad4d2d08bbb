package io.r2lock;

import java.util.Objects;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/**
 * One wait for a busy key in the server's queue, on a connection of its own, where the key also stays held.
 *
 * <pre>
 *   BORROWING ──▶ WAITING ──granted──▶ the lock's place, until it is unlocked
 *       │            ├──── refused ──▶ all is unlocked ──▶ given back
 *       │            └──── stopped ──▶ quiet ──▶ all is unlocked ──▶ given back
 *       └──▶ no connection is free, or none can be had: the request polls
 * </pre>
 *
 * <p>After any error everything that the session may hold is unlocked before the connection is used again: of waits that were
 * cancelled with an unlock close by nearly half held the lock all the same (PostgreSQL 15), and nothing in the answer tells. The
 * state is the {@link SessionAcquire}'s.
 */
final class SessionWait implements Borrow.Taker, SessionLock.Place, LockConnection.Holder {

    private final SessionAcquire request;
    private final LockKey key;
    private final LockConnections connections;
    private final Borrow borrow;
    private volatile @Nullable Lease lease;
    private volatile @Nullable ServerCancel cancel;
    private volatile @Nullable SessionLock lock;

    /** The lock and the tokens that are asked for: the connection is given back when none is left. */
    private final AtomicInteger uses = new AtomicInteger(1);

    private volatile @Nullable Runnable whenUnused;

    SessionWait(SessionAcquire request, LockKey key) {
        this.request = request;
        this.key = key;
        this.connections = request.client.sessions().waiting();
        this.borrow = new Borrow(connections, this);
    }

    void begin() {
        connections.borrowNow(borrow);
    }

    /** The request was stopped while it waited for a connection. */
    void withdraw() {
        borrow.cancel();
    }

    /** The request was stopped while it waited on the server. */
    void stop() {
        ServerCancel own = cancel;
        // null: it does not wait there yet, and never will
        if (own != null) {
            own.begin();
        }
    }

    @Override
    public void taken(Lease taken) {
        lease = taken;
        taken.settle();
        LockConnection on = taken.connection();
        on.closeWhenLost();
        ServerCancel own = new ServerCancel(on, request.client.options().clock(), this::quiet);
        cancel = own;
        if (!request.waits()) {
            taken.giveBack();
            return;
        }
        LockMode mode = request.spec.mode();
        if (request.spec.noWait()) {
            on.ask(SessionSql.sessionTryLock(key, mode), this::answered);
        } else {
            on.send(SessionSql.sessionLock(key, mode, request.waited.limitMillis()), this::answered);
        }
        own.sent();
    }

    @Override
    public void notTaken(Throwable error) {
        request.cannotWait();
    }

    @Override
    public void exhausted() {
        request.cannotWait();
    }

    private void answered(@Nullable Throwable error, boolean yes) {
        if (error == null && yes && connection().isUsable()) {
            SessionLock granted = new SessionLock(key, request.spec.mode(), this, request.client.now());
            lock = granted;
            connection().heldBy(this);
            if (request.waitGranted(granted)) {
                return;
            }
        } else if (request.waitRefused()) {
            if (error == null && connection().isUsable()) {
                lease().giveBack();
                request.refuse();
                return;
            }
            boolean gone = error == null || !connection().isUsable() || SqlStates.isConnectionGone(SqlStates.of(error));
            if (gone) {
                connection().close();
                connections.distrustIdle();
            }
            clean(() -> request.waitFailed(error, gone));
            return;
        }
        Objects.requireNonNull(cancel).answered();
    }

    private void quiet() {
        clean(request::undo);
    }

    private void clean(Runnable then) {
        LockConnection on = connection();
        if (!on.isUsable()) {
            lease().giveBack();
            then.run();
            return;
        }
        long limit = on.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, () -> {});
        on.send(SessionSql.UNLOCK_ALL, (error, yes) -> {
            on.inTime(limit);
            if (error != null) {
                on.close();
            }
            lease().giveBack();
            then.run();
        });
    }

    @Override
    public int pid() {
        return connection().pid();
    }

    @Override
    public void token(boolean durable, TokenCall caller) {
        if (uses.getAndUpdate(count -> count == 0 ? 0 : count + 1) == 0) {
            caller.answered("", new IllegalStateException("the lock was given back"));
            return;
        }
        LockConnection on = connection();
        long limit = on.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, () -> {});
        TextExchange.askLast(on.wire(), durable ? SessionSql.DURABLE_TOKEN : LockSql.TOKEN, (text, error) -> {
            on.inTime(limit);
            caller.answered(text, error);
            noLongerUsed();
        });
    }

    @Override
    public void unlock(SessionLock held, SessionCall.Listener told) {
        whenUnused = () -> unlockNow(held, told);
        noLongerUsed();
    }

    private void noLongerUsed() {
        if (uses.decrementAndGet() == 0) {
            Objects.requireNonNull(whenUnused).run();
        }
    }

    private void unlockNow(SessionLock held, SessionCall.Listener told) {
        LockConnection on = connection();
        if (!on.isUsable()) {
            lease().giveBack();
            told.answered(SessionCall.Answer.FAILED, new IllegalStateException("the connection was closed"));
            return;
        }
        long limit = on.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, () -> {});
        on.ask(SessionSql.sessionUnlock(key, held.mode), (error, yes) -> {
            on.inTime(limit);
            if (error != null) {
                on.close();
            }
            lease().giveBack();
            SessionCall.Answer answer = yes ? SessionCall.Answer.RELEASED : SessionCall.Answer.NOT_HELD;
            told.answered(error == null ? answer : SessionCall.Answer.FAILED, error);
        });
    }

    /** The backend or the connection is gone while the key is held. */
    @Override
    public void lose(String why) {
        SessionLock held = lock;
        LockConnection on = connection();
        if (on.holder() != this) {
            // told late: somebody else may have the connection by now
            return;
        }
        on.close();
        if (held != null) {
            held.markLost(why);
            held.tellLost();
        }
    }

    private LockConnection connection() {
        return lease().connection();
    }

    private Lease lease() {
        return Objects.requireNonNull(lease);
    }
}
