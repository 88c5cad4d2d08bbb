package io.r2lock;

import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.MonoSink;

/**
 * Asks each session that holds a lock of the hold for an id; the smallest one is the token.
 *
 * <p>Why each: only the answer of the session that holds a lock proves that the lock was held when the id was assigned. One that had
 * lost it unnoticed, to a holder with a token already, would have the larger id.
 *
 * <p>Why the smallest: for every key it is at most the id that was assigned while that key was surely held, and so smaller than any id
 * of a later holder; and as all of the ids were assigned after the last grant, it is larger than any id of an earlier holder, of which
 * that one's token is at most one.
 */
final class SessionToken implements TokenCall {

    private final SessionHold hold;
    private final MonoSink<FencingToken> told;
    private final AtomicInteger unanswered;
    private final AtomicReference<@Nullable FencingToken> smallest = new AtomicReference<>();
    private final AtomicReference<@Nullable Throwable> failed = new AtomicReference<>();

    private SessionToken(SessionHold hold, int sessions, MonoSink<FencingToken> told) {
        this.hold = hold;
        this.unanswered = new AtomicInteger(sessions);
        this.told = told;
    }

    static Mono<FencingToken> ask(SessionHold hold, List<SessionLock> locks) {
        List<SessionLock.Place> sessions =
                locks.stream().map(SessionLock::place).distinct().toList();
        return Mono.create(told -> {
            SessionToken token = new SessionToken(hold, sessions.size(), told);
            sessions.forEach(session -> session.token(hold.spec.durableTokens(), token));
        });
    }

    @Override
    public void answered(String id, @Nullable Throwable error) {
        if (error != null) {
            failed.compareAndSet(null, HoldToken.failure(hold, error));
        } else {
            take(id);
        }
        if (unanswered.decrementAndGet() > 0) {
            return;
        }
        Throwable why = failed.get();
        if (why == null) {
            told.success(smallest.get());
        } else {
            told.error(why);
        }
    }

    private void take(String id) {
        try {
            FencingToken token = FencingToken.parse(id);
            smallest.accumulateAndGet(token, (one, other) -> one == null || other.compareTo(one) < 0 ? other : one);
        } catch (IllegalStateException e) {
            failed.compareAndSet(null, e);
        }
    }
}
