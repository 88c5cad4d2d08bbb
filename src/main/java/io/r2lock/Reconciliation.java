package io.r2lock;

import io.r2lock.SessionClaims.Held;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.function.BiConsumer;
import org.jspecify.annotations.Nullable;

/**
 * Makes the server's locks equal to the claims again after a message has failed: a failed statement keeps the session locks
 * that it had taken, and an unlock that it had done is done.
 *
 * <pre>
 *   CERTAIN ──a batch fails──▶ DOUBTFUL ──all is quiet──▶ READING ──▶ UNLOCKING ─┐ until the server says
 *      ▲                           └──one call alone──────────────────▶          ⟲ that nothing is left
 *      └─────────────────────────────────────────────────────────────────────────┘
 * </pre>
 *
 * <p>READING lists what the session holds. What is listed and not claimed is unlocked, each until the server says that it is not
 * held; what is claimed and not listed is a loss. Only then has anybody of the failed batch an answer. Where the failed batch
 * had one call, nothing but its key can have changed, and that is unlocked without reading: listing takes all partitions of the
 * server's lock table, which nobody should do once for each caller that finds the table full.
 *
 * <p>Not safe by itself: only the connection's drain uses it, and sends nothing else meanwhile.
 */
final class Reconciliation {

    private enum State {
        CERTAIN,
        DOUBTFUL,
        READING,
        UNLOCKING
    }

    private final SessionClaims claims;
    private final Set<SessionCall> doubtful = new LinkedHashSet<>();
    private List<SessionCall> strays = new ArrayList<>();
    private State state = State.CERTAIN;
    private @Nullable Throwable error;

    Reconciliation(SessionClaims claims) {
        this.claims = claims;
    }

    boolean isCertain() {
        return state == State.CERTAIN;
    }

    /** Whether its own messages are on the wire. */
    boolean isUnderWay() {
        return state == State.READING || state == State.UNLOCKING;
    }

    /** A batch failed; another one may still be in flight, whose answers count. */
    void doubt(LockBatch batch, Throwable why) {
        doubtful.addAll(batch.calls());
        error = why;
        state = State.DOUBTFUL;
    }

    /** All is quiet: the calls of the next message, none for a reading. */
    List<SessionCall> next() {
        if (state == State.DOUBTFUL) {
            if (doubtful.size() == 1) {
                doubtful.forEach(call -> stray(call.key, call.mode));
                state = State.UNLOCKING;
            } else {
                state = State.READING;
            }
        }
        return strays;
    }

    private void stray(LockKey key, LockMode mode) {
        strays.add(new SessionCall(true, key, mode, (answer, unlockError) -> {}));
    }

    /** A message of its own succeeded; {@code lost} is told the claims that turned out to be none. */
    void answered(LockBatch batch, BiConsumer<LockKey, LockMode> lost) {
        if (state == State.READING) {
            compare(SessionSql.readSessionLocks(batch.text()), lost);
            state = State.UNLOCKING;
        } else {
            List<SessionCall> again = new ArrayList<>();
            for (SessionCall stray : strays) {
                if (stray.answer() == SessionCall.Answer.RELEASED) {
                    again.add(new SessionCall(true, stray.key, stray.mode, (answer, unlockError) -> {}));
                }
            }
            strays = again;
        }
    }

    private void compare(Set<Held> listed, BiConsumer<LockKey, LockMode> lost) {
        for (Held held : listed) {
            if (!claims.claims(held, doubtful)) {
                stray(held.key(), held.mode());
            }
        }
        claims.endMissing(listed, doubtful).forEach(held -> lost.accept(held.key(), held.mode()));
    }

    /** Whether nothing is left to unlock. */
    boolean isDone() {
        return state == State.UNLOCKING && strays.isEmpty();
    }

    /** Of the failed batch, or of the latest one. */
    @Nullable
    Throwable error() {
        return error;
    }

    /** The calls that have waited for this; the connection is certain again. */
    List<SessionCall> finish() {
        List<SessionCall> calls = List.copyOf(doubtful);
        doubtful.clear();
        strays.clear();
        state = State.CERTAIN;
        return calls;
    }
}
