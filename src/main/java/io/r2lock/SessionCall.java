package io.r2lock;

import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Operators;
import reactor.util.context.Context;

/** One request to take, or to give back, a session lock, until it is answered. Belongs to its connection's drain. */
final class SessionCall {

    /** How a call ends. */
    enum Answer {
        /** The session holds the lock. */
        GRANTED,
        /** Somebody else holds it. */
        BUSY,
        /** This session holds it already, or did when it was this call's turn; the server was not asked. */
        CLAIMED,
        /** The session has given the lock back. */
        RELEASED,
        /** The session did not hold what was to be given back: a loss that nobody had noticed. */
        NOT_HELD,
        /** The error says why. A lock was not taken; what was to be given back has ended, or ends with its connection. */
        FAILED
    }

    /** Who made the call. */
    @FunctionalInterface
    interface Listener {
        /**
         * The call has ended.
         *
         * @param error set for {@link Answer#FAILED}, and only there
         */
        void answered(Answer answer, @Nullable Throwable error);
    }

    final LockKey key;
    final LockMode mode;
    final CallKind kind;
    private final Listener listener;

    /** What the server said; null before that. Written by the receiver of its batch, read by the drain once that is over. */
    @Nullable
    Boolean said;

    /** The next call for the same key, which waits until this one is answered. */
    @Nullable
    SessionCall behind;

    SessionCall(boolean unlock, LockKey key, LockMode mode, Listener listener) {
        this.key = key;
        this.mode = mode;
        this.kind = CallKind.of(unlock, key, mode);
        this.listener = listener;
    }

    boolean isUnlock() {
        return kind.isUnlock();
    }

    /** The answer of a message that succeeded. */
    Answer answer() {
        boolean yes = Boolean.TRUE.equals(said);
        if (isUnlock()) {
            return yes ? Answer.RELEASED : Answer.NOT_HELD;
        }
        return yes ? Answer.GRANTED : Answer.BUSY;
    }

    void tell(Answer answer, @Nullable Throwable error) {
        try {
            listener.answered(answer, error);
        } catch (Throwable thrown) {
            Operators.onErrorDropped(thrown, Context.empty());
        }
    }

    /** What one listener throws must not keep the others from their answers. */
    static void tell(Runnable listener) {
        try {
            listener.run();
        } catch (Throwable thrown) {
            Operators.onErrorDropped(thrown, Context.empty());
        }
    }
}
