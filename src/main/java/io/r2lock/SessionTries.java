package io.r2lock;

import java.util.Objects;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * One round of tries, one for each key that a session request misses: they share messages where their connections are the same.
 * {@code TRYING ──the last is answered──▶ ENDED}, which is told once and makes the request's keys what was granted.
 */
final class SessionTries {

    private static final int NONE = -1;

    /** How one key's try ended. */
    private record Try(
            SessionCall.Answer answer,
            @Nullable SessionLock lock,
            @Nullable Throwable error) {}

    private final SessionLocks sessions;
    private final SessionKeys keys;
    private final LockMode mode;
    private final Consumer<SessionTries> whenEnded;
    private final @Nullable Try[] tries;
    private final AtomicInteger unanswered = new AtomicInteger();

    private int busyAt = NONE;
    private boolean claimed;
    private @Nullable Try failed;

    SessionTries(SessionLocks sessions, SessionKeys keys, LockMode mode, Consumer<SessionTries> whenEnded) {
        this.sessions = sessions;
        this.keys = keys;
        this.mode = mode;
        this.whenEnded = whenEnded;
        this.tries = new Try[keys.count()];
    }

    /** Called once. */
    void begin() {
        int count = 0;
        for (int i = 0; i < tries.length; i++) {
            count += keys.has(i) ? 0 : 1;
        }
        unanswered.set(count);
        // the answers change nothing that this loop looks at: the last one does, after it
        for (int i = 0; count > 0; i++) {
            if (!keys.has(i)) {
                count--;
                tryOne(i);
            }
        }
    }

    private void tryOne(int index) {
        SessionBackend backend = sessions.slot(keys.key(index)).open();
        if (backend == null) {
            tried(index, new Try(SessionCall.Answer.FAILED, null, null));
        } else {
            backend.lock(keys.key(index), mode, (answer, lock, error) -> tried(index, new Try(answer, lock, error)));
        }
    }

    private void tried(int index, Try ended) {
        tries[index] = ended;
        if (unanswered.decrementAndGet() == 0) {
            read();
            whenEnded.accept(this);
        }
    }

    private void read() {
        for (int i = 0; i < tries.length; i++) {
            Try ended = tries[i];
            if (ended != null) {
                read(i, ended);
            }
        }
    }

    private void read(int index, Try ended) {
        switch (ended.answer()) {
            // what comes behind a key that is still missing may be given back for that, and so must not be shared
            case GRANTED -> keys.take(index, Objects.requireNonNull(ended.lock()), noneIsMissing());
            case BUSY -> busy(index);
            case CLAIMED -> {
                if (mode == LockMode.EXCLUSIVE) {
                    busy(index);
                } else if (noneIsMissing() && !keys.join(index)) {
                    busy(index);
                    claimed = true;
                }
            }
            case FAILED, RELEASED, NOT_HELD -> failed = ended;
        }
    }

    private boolean noneIsMissing() {
        return busyAt == NONE && failed == null;
    }

    private void busy(int index) {
        if (busyAt == NONE) {
            busyAt = index;
        }
    }

    boolean isBusy() {
        return busyAt != NONE;
    }

    /** The first key that is busy. */
    int busyAt() {
        return busyAt;
    }

    /** A shared lock of this process is in the way, which could not be shared: it was just being given back, say. */
    boolean isClaimed() {
        return claimed;
    }

    boolean hasFailed() {
        return failed != null;
    }

    /** The connection was gone before it granted anything. */
    boolean isGone() {
        Try what = failed;
        return what != null && (what.error() == null || SqlStates.isConnectionGone(SqlStates.of(what.error())));
    }

    Throwable error() {
        Try what = failed;
        return what == null || what.error() == null
                ? new IllegalStateException("the connection was closed")
                : what.error();
    }
}
