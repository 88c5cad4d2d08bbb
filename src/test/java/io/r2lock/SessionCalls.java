package io.r2lock;

import io.r2dbc.spi.R2dbcNonTransientResourceException;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/** Calls of a session connection, and what they were told. */
final class SessionCalls implements SessionConnection.Listener {

    /** One call that counts its answers. */
    static final class Call implements SessionCall.Listener {
        final AtomicInteger answers = new AtomicInteger();
        volatile SessionCall.@Nullable Answer answer;
        volatile @Nullable Throwable error;

        @Override
        public void answered(SessionCall.Answer given, @Nullable Throwable why) {
            answer = given;
            error = why;
            answers.incrementAndGet();
        }

        boolean isAnswered() {
            return answers.get() > 0;
        }

        @Nullable
        String sqlState() {
            Throwable why = error;
            return why == null ? null : SqlStates.of(why);
        }
    }

    final Queue<LockKey> lost = new ConcurrentLinkedQueue<>();
    final List<Throwable> ends = new CopyOnWriteArrayList<>();

    static R2dbcNonTransientResourceException error(String sqlState) {
        return new R2dbcNonTransientResourceException("as the server says", sqlState);
    }

    static Call lock(SessionConnection connection, LockKey key) {
        return lock(connection, key, LockMode.EXCLUSIVE);
    }

    static Call lock(SessionConnection connection, LockKey key, LockMode mode) {
        Call call = new Call();
        connection.lock(key, mode, call);
        return call;
    }

    static Call unlock(SessionConnection connection, LockKey key) {
        return unlock(connection, key, LockMode.EXCLUSIVE);
    }

    static Call unlock(SessionConnection connection, LockKey key, LockMode mode) {
        Call call = new Call();
        connection.unlock(key, mode, call);
        return call;
    }

    @Override
    public void lost(LockKey key, LockMode mode) {
        lost.add(key);
    }

    @Override
    public void ended(Throwable why) {
        ends.add(why);
    }
}
