package io.r2lock;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * The keys of one session request: its places at their gates, and what it holds on the server.
 *
 * <p>Belongs to whoever may move the request's state on: one thread at a time, which hands over by that state. What {@link #inherit}
 * writes before the state moves does no harm: who stopped the request meanwhile gives up the places, and the gates know what was
 * left there.
 */
final class SessionKeys {

    private final DefaultAdvisoryLocks client;
    private final List<LockKey> keys;
    private final GatePass gates;
    private final @Nullable SessionLock[] locks;

    SessionKeys(DefaultAdvisoryLocks client, List<LockKey> keys, GatePass gates) {
        this.client = client;
        this.keys = keys;
        this.gates = gates;
        this.locks = new SessionLock[keys.size()];
    }

    int count() {
        return locks.length;
    }

    LockKey key(int index) {
        return keys.get(index);
    }

    boolean has(int index) {
        return locks[index] != null;
    }

    /** The first one that is not held; {@link #count} if there is none. */
    int firstMissing() {
        int index = 0;
        while (index < locks.length && locks[index] != null) {
            index++;
        }
        return index;
    }

    /** All gates are passed: takes over what those before have left there. */
    void inherit() {
        for (int i = 0; i < locks.length; i++) {
            locks[i] = (SessionLock) gates.waiter(i).baton;
        }
    }

    /** The server has granted it; {@code null} takes that back. */
    void put(int index, @Nullable SessionLock lock) {
        locks[index] = lock;
    }

    /** The server has granted it; {@code shares}: others of this process may join from now on. */
    void take(int index, SessionLock lock, boolean shares) {
        locks[index] = lock;
        if (shares) {
            client.gates().prove(gates.waiter(index), lock);
        }
    }

    /** Shares what this process holds already; {@code false} when that cannot be shared. */
    boolean join(int index) {
        Baton shared = client.gates().join(gates.waiter(index));
        if (shared != null) {
            locks[index] = (SessionLock) shared;
        }
        return shared != null;
    }

    /** All are held, and can be handed over from now on. */
    List<SessionLock> settle() {
        List<SessionLock> all = new ArrayList<>(locks.length);
        for (int i = 0; i < locks.length; i++) {
            SessionLock lock = Objects.requireNonNull(locks[i]);
            Waiter waiter = gates.waiter(i);
            if (waiter.baton != lock) {
                client.gates().prove(waiter, lock);
            }
            all.add(lock);
        }
        return all;
    }

    /** Gives back those after this one, without leaving their gates. */
    void releaseBehind(int index, Runnable then) {
        List<SessionLock> behind = new ArrayList<>();
        for (int i = index + 1; i < locks.length; i++) {
            SessionLock lock = locks[i];
            if (lock != null) {
                behind.add(lock);
                locks[i] = null;
            }
        }
        AtomicInteger left = new AtomicInteger(behind.size() + 1);
        Runnable one = () -> {
            if (left.decrementAndGet() == 0) {
                then.run();
            }
        };
        behind.forEach(lock -> lock.release(lost -> one.run()));
        one.run();
    }

    /** Leaves all gates: each lock is handed over to the next of this process, or given back first. */
    void release(Consumer<@Nullable String> done) {
        AtomicInteger left = new AtomicInteger(locks.length);
        AtomicReference<@Nullable String> lost = new AtomicReference<>();
        for (int i = 0; i < locks.length; i++) {
            Waiter waiter = gates.waiter(i);
            KeyGate.Release release = client.gates().part(waiter, locks[i]);
            SessionLock own = locks[i];
            if (release == null) {
                if (own != null && !own.isGood()) {
                    lost.set(own.lostBecause());
                }
                one(left, lost, done);
                continue;
            }
            SessionLock lock = (SessionLock) release.lock();
            long began = release.pause() ? client.now() : 0;
            lock.release(why -> {
                if (why != null) {
                    lost.set(why);
                }
                leave(waiter, release.pause() ? Rest.nanos(lock.since(), began, client.now()) : 0);
                one(left, lost, done);
            });
        }
    }

    private static void one(
            AtomicInteger left, AtomicReference<@Nullable String> lost, Consumer<@Nullable String> done) {
        if (left.decrementAndGet() == 0) {
            done.accept(lost.get());
        }
    }

    private void leave(Waiter waiter, long later) {
        if (later <= 0) {
            client.gates().leave(waiter);
        } else {
            client.options().clock().schedule(() -> client.gates().leave(waiter), later, TimeUnit.NANOSECONDS);
        }
    }
}
