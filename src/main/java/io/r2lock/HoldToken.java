package io.r2lock;

import io.r2lock.AdvisoryLockException.Failure;
import java.util.concurrent.atomic.AtomicReferenceFieldUpdater;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/**
 * The fencing token of one hold, which is asked for when somebody wants it, and once.
 *
 * <pre>
 *   UNKNOWN ──▶ ASKED ──▶ KNOWN
 *      ▲          │
 *      └──failed──┘
 * </pre>
 *
 * <p>Whoever comes while it is asked for shares the answer; nobody's cancel reaches the server.
 *
 * <p>An answer is looked at before it is told: the hold must still be live. So an id counts only if it was assigned while the hold
 * lasted, which makes it smaller than that of any hold that comes after it, in this process too; there, a hold may have been
 * handed on while its question was on the wire.
 */
final class HoldToken {

    private static final AtomicReferenceFieldUpdater<HoldToken, Sinks.@Nullable One<FencingToken>> ASKED =
            castUpdater();

    private final Hold hold;

    private volatile Sinks.@Nullable One<FencingToken> asked;

    HoldToken(Hold hold) {
        this.hold = hold;
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    private static AtomicReferenceFieldUpdater<HoldToken, Sinks.@Nullable One<FencingToken>> castUpdater() {
        return (AtomicReferenceFieldUpdater)
                AtomicReferenceFieldUpdater.newUpdater(HoldToken.class, Sinks.One.class, "asked");
    }

    Mono<FencingToken> get() {
        return Mono.defer(this::find);
    }

    private Mono<FencingToken> find() {
        Sinks.One<FencingToken> known = asked;
        if (!hold.isLive()) {
            return Mono.error(ended());
        }
        if (known != null) {
            return known.asMono();
        }
        Sinks.One<FencingToken> own = Sinks.one();
        if (!ASKED.compareAndSet(this, null, own)) {
            return find();
        }
        hold.askToken().subscribe(token -> answered(own, token), error -> refused(own, error));
        return own.asMono();
    }

    private void answered(Sinks.One<FencingToken> own, FencingToken token) {
        if (hold.isLive()) {
            own.tryEmitValue(token);
        } else {
            failed(own, ended());
        }
    }

    /** The end of a hold cancels what is on the wire: the error of that is not what its holder has to know. */
    private void refused(Sinks.One<FencingToken> own, Throwable error) {
        failed(own, hold.isLive() || error instanceof LockLostException ? error : ended());
    }

    private void failed(Sinks.One<FencingToken> own, Throwable error) {
        // first: who hears of it may ask again at once
        ASKED.compareAndSet(this, own, null);
        own.tryEmitError(error);
    }

    /** What an error of the statement is to who asked. */
    static AdvisoryLockException failure(Hold hold, Throwable error) {
        String state = SqlStates.of(error);
        if (SqlStates.isConnectionGone(state)) {
            return hold.lost("its connection is gone, so it gets no fencing token", error);
        }
        return new LockServerException(
                "No fencing token for the " + hold.attempt() + ": " + error.getMessage() + " [SQLSTATE " + state + "]",
                hold.attempt(),
                new Failure(error, state));
    }

    private LockLostException ended() {
        return hold.lost("it has ended, and gets no fencing token any more", null);
    }
}
