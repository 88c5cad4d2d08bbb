package io.r2lock;

import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;

/**
 * A place for one connection that session locks share: {@code EMPTY ──▶ OPENING ──▶ OPEN ──ended──▶ EMPTY}. Whoever needs it while
 * it is empty opens it, and whoever needs it meanwhile waits for the same connection; a failure is told to all of them, and the next
 * one tries again.
 *
 * <p>Invariant: at most one connection is open that has not ended, and it is the one that is found here.
 */
final class SessionSlot {

    private final ConnectionSource source;
    private final Scheduler clock;
    private final AtomicReference<@Nullable Mono<SessionBackend>> opening = new AtomicReference<>();
    private final AtomicReference<@Nullable SessionBackend> open = new AtomicReference<>();
    private volatile boolean closing;

    SessionSlot(ConnectionSource source, Scheduler clock) {
        this.source = source;
        this.clock = clock;
    }

    /** The connection, if it is open now; whoever is told that it has ended does not find it any more. */
    @Nullable
    SessionBackend open() {
        SessionBackend now = open.get();
        return now == null || now.hasEnded() ? null : now;
    }

    /** Opens it where it is not open; a cancel of the result leaves that to others. */
    Mono<SessionBackend> opened() {
        return Mono.defer(() -> {
            Mono<SessionBackend> fresh = Mono.defer(this::found)
                    .doOnTerminate(() -> opening.set(null))
                    .cache();
            Mono<SessionBackend> first = opening.compareAndExchange(null, fresh);
            return first == null ? fresh : first;
        });
    }

    /**
     * Runs once for each {@code Mono} that got to be {@link #opening}, while it is. All who have that one rely on it: where the
     * connection was opened after the first of them had looked, it must be found here and not by him alone.
     */
    private Mono<SessionBackend> found() {
        SessionBackend now = open();
        return now == null
                ? Mono.defer(source::openForSession)
                        .subscribeOn(Opening.THREADS)
                        .map(this::opened)
                : Mono.just(now);
    }

    private SessionBackend opened(ConnectionSource.SessionWire wire) {
        SessionBackend backend = new SessionBackend(wire, clock, this::ended);
        open.set(backend);
        if (backend.hasEnded()) {
            ended(backend);
        }
        if (closing) {
            backend.close().subscribe();
        }
        return backend;
    }

    /** By compare-and-set: its successor may be open by now. */
    private void ended(SessionBackend backend) {
        open.compareAndSet(backend, null);
    }

    Mono<Void> close() {
        closing = true;
        SessionBackend now = open.get();
        return now == null ? Mono.empty() : now.close();
    }
}
