package io.r2lock;

import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;

/**
 * A place for one connection that session locks share: {@code EMPTY ──▶ OPENING ──▶ OPEN ──ended──▶ EMPTY}. Whoever needs it while
 * it is empty opens it, and whoever needs it meanwhile waits for the same connection; a failure is told to all of them, and the next
 * one tries again.
 */
final class SessionSlot {

    private final ConnectionSource source;
    private final Scheduler clock;
    private final AtomicReference<@Nullable Mono<SessionBackend>> opening = new AtomicReference<>();
    private volatile @Nullable SessionBackend open;
    private volatile boolean closing;

    SessionSlot(ConnectionSource source, Scheduler clock) {
        this.source = source;
        this.clock = clock;
    }

    /** The connection, if it is open now. */
    @Nullable
    SessionBackend open() {
        return open;
    }

    /** Opens it where it is not open; a cancel of the result leaves that to others. */
    Mono<SessionBackend> opened() {
        return Mono.defer(() -> {
            Mono<SessionBackend> fresh = Mono.defer(source::openForSession)
                    .subscribeOn(Opening.THREADS)
                    .map(this::opened)
                    .doOnError(error -> opening.set(null))
                    .cache();
            Mono<SessionBackend> first = opening.compareAndExchange(null, fresh);
            if (first != null) {
                return first;
            }
            // it may have been opened between the caller's look and the exchange
            SessionBackend now = open;
            if (now != null) {
                opening.set(null);
                return Mono.just(now);
            }
            return fresh;
        });
    }

    private SessionBackend opened(ConnectionSource.SessionWire wire) {
        SessionBackend backend = new SessionBackend(wire, clock, this::ended);
        open = backend;
        if (backend.hasEnded()) {
            ended(backend);
        }
        opening.set(null);
        if (closing) {
            backend.close().subscribe();
        }
        return backend;
    }

    private void ended(SessionBackend backend) {
        if (open == backend) {
            open = null;
        }
    }

    Mono<Void> close() {
        closing = true;
        SessionBackend now = open;
        return now == null ? Mono.empty() : now.close();
    }
}
