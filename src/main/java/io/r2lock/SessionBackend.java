package io.r2lock;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;

/**
 * One open {@link SessionConnection} with the locks that this process holds on it: {@code OPEN ──▶ ENDED}, and with it all its
 * locks are lost.
 *
 * <p>{@link #locks} changes in the connection's drain only, by which all its listeners are called. A loss is told without it: the
 * event loop may be blocked by the work of one of the holds.
 */
final class SessionBackend implements SessionLock.Place, SessionConnection.Listener, LockConnection.Holder, Watched {

    /** Who tried to take a lock. */
    @FunctionalInterface
    interface Tried {
        /**
         * The server's answer.
         *
         * @param lock set if it was granted
         * @param error set if the try failed
         */
        void tried(SessionCall.Answer answer, @Nullable SessionLock lock, @Nullable Throwable error);
    }

    private final SessionConnection connection;
    private final ConnectionFacts facts;
    private final @Nullable Scheduler loop;
    private final Scheduler clock;
    private final Consumer<SessionBackend> whenEnded;
    private final Map<LockKey, SessionLock> locks = new ConcurrentHashMap<>();

    /** As many as {@link #locks}, for other threads. */
    private volatile int held;

    private volatile boolean ended;
    private volatile @Nullable String lostBecause;

    SessionBackend(ConnectionSource.SessionWire opened, Scheduler clock, Consumer<SessionBackend> whenEnded) {
        this.facts = opened.facts();
        this.clock = clock;
        this.whenEnded = whenEnded;
        this.loop = LockConnection.loopOf(opened.wire());
        this.connection = new SessionConnection(opened.wire(), facts.pid(), clock, this);
    }

    /** Takes a lock if it is free. */
    void lock(LockKey key, LockMode mode, Tried caller) {
        connection.lock(key, mode, (answer, error) -> {
            if (answer != SessionCall.Answer.GRANTED) {
                caller.tried(answer, null, error);
                return;
            }
            SessionLock lock = new SessionLock(key, mode, this, clock.now(TimeUnit.NANOSECONDS));
            locks.put(key, lock);
            held = locks.size();
            caller.tried(answer, lock, null);
        });
    }

    @Override
    public void unlock(SessionLock lock, SessionCall.Listener told) {
        if (locks.get(lock.key) != lock) {
            // lost, and the key may have been locked anew
            told.answered(SessionCall.Answer.NOT_HELD, null);
            return;
        }
        connection.unlock(lock.key, lock.mode, (answer, error) -> {
            locks.remove(lock.key, lock);
            held = locks.size();
            told.answered(answer, error);
        });
    }

    @Override
    public void token(boolean durable, TokenCall caller) {
        connection.token(durable, caller);
    }

    @Nullable
    String unfitFor(List<LockKey> keys) {
        return facts.unfitFor(keys);
    }

    @Override
    public void lost(LockKey key, LockMode mode) {
        SessionLock lock = locks.remove(key);
        held = locks.size();
        if (lock != null) {
            lose(lock, "the session did not have it any more, though nobody had released it");
        }
    }

    @Override
    public void ended(Throwable why) {
        ended = true;
        whenEnded.accept(this);
        String told = lostBecause;
        locks.values().forEach(lock -> lose(lock, told == null ? "its connection closed" : told));
        locks.clear();
        held = 0;
    }

    private static void lose(SessionLock lock, String why) {
        lock.markLost(why);
        lock.tellLost();
    }

    boolean hasEnded() {
        return ended || connection.hasEnded();
    }

    /** The heartbeat says so: the server may have given the locks to others, or may do so soon. */
    @Override
    public void lose(String why) {
        lostBecause = why;
        whenEnded.accept(this);
        connection.close();
        locks.values().forEach(lock -> lose(lock, why));
    }

    @Override
    public LockConnection.@Nullable Holder holder() {
        return held == 0 || ended ? null : this;
    }

    @Override
    public int pid() {
        return facts.pid();
    }

    @Override
    public long backendStart() {
        return facts.backendStart();
    }

    @Override
    public boolean isPooled() {
        return false;
    }

    @Override
    public @Nullable Scheduler loop() {
        return loop;
    }

    @Override
    public void probe() {
        connection.probe();
    }

    /** How many locks are held on it. */
    int held() {
        return held;
    }

    /** Completes when the socket is closed. */
    Mono<Void> close() {
        connection.close();
        return connection.closed();
    }
}
