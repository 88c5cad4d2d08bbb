package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.HashSet;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import reactor.core.scheduler.Scheduler;

/** A server of slots without a server: answers when the test says so, and counts. */
final class FakeSlots implements PermitGates.Server, SessionLock.Place {

    private final Scheduler clock;
    private final Queue<Runnable> pending = new ConcurrentLinkedQueue<>();
    private final Set<LockKey> held = new HashSet<>();
    private final Set<LockKey> elsewhere = ConcurrentHashMap.newKeySet();
    final AtomicInteger tries = new AtomicInteger();
    final AtomicInteger grants = new AtomicInteger();
    final AtomicInteger unlocks = new AtomicInteger();
    final AtomicInteger opens = new AtomicInteger();
    private volatile boolean open = true;

    /** What the next tries are answered with, while it is set. */
    volatile @Nullable Throwable failure;

    FakeSlots(Scheduler clock) {
        this.clock = clock;
    }

    /** Another process holds the slot, or does not any more. */
    void elsewhere(LockKey slot, boolean holds) {
        if (holds) {
            elsewhere.add(slot);
        } else {
            elsewhere.remove(slot);
        }
    }

    void disconnect() {
        open = false;
    }

    @Override
    public boolean tryLock(LockKey key, SessionBackend.Tried told) {
        if (!open) {
            return false;
        }
        tries.incrementAndGet();
        pending.add(() -> {
            Throwable error = failure;
            if (error != null) {
                told.tried(SessionCall.Answer.FAILED, null, error);
            } else if (elsewhere.contains(key) || !take(key)) {
                told.tried(SessionCall.Answer.BUSY, null, null);
            } else {
                grants.incrementAndGet();
                SessionLock lock = new SessionLock(key, LockMode.EXCLUSIVE, this, clock.now(TimeUnit.NANOSECONDS));
                told.tried(SessionCall.Answer.GRANTED, lock, null);
            }
        });
        return true;
    }

    private synchronized boolean take(LockKey key) {
        return held.add(key);
    }

    @Override
    public void open(LockKey key, Consumer<@Nullable Throwable> told) {
        opens.incrementAndGet();
        pending.add(() -> {
            Throwable error = failure;
            open = error == null;
            told.accept(error);
        });
    }

    @Override
    public int pid() {
        return 1;
    }

    @Override
    public void token(boolean durable, TokenCall caller) {
        throw new UnsupportedOperationException("permits have no tokens");
    }

    @Override
    public void unlock(SessionLock lock, SessionCall.Listener told) {
        unlocks.incrementAndGet();
        pending.add(() -> {
            synchronized (this) {
                assertThat(held.remove(lock.key)).isTrue();
            }
            told.answered(SessionCall.Answer.RELEASED, null);
        });
    }

    synchronized int held() {
        return held.size();
    }

    int pending() {
        return pending.size();
    }

    /** Answers the oldest message; {@code false} if there was none. */
    boolean answer() {
        Runnable next = pending.poll();
        if (next != null) {
            next.run();
        }
        return next != null;
    }

    void answerAll() {
        boolean more = true;
        while (more) {
            more = answer();
        }
    }
}
