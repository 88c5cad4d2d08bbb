package io.r2lock;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * The connections of session scope: a few that are shared, each for its part of the keys, and a few that are waited on, one key each.
 */
final class SessionLocks implements PermitGates.Server {

    private final ClientOptions options;
    private final List<SessionSlot> slots = new ArrayList<>();
    private final LockConnections waiting;

    SessionLocks(ConnectionSource source, ClientOptions options) {
        this.options = options;
        for (int i = 0; i < options.sessionConnections(); i++) {
            slots.add(new SessionSlot(source, options.clock()));
        }
        this.waiting = new LockConnections(source::open, options, options.waitingConnections());
    }

    /** Where the key is locked, always. */
    SessionSlot slot(LockKey key) {
        int hash = key.hashCode() * 0x9E3779B9;
        return slots.get((hash >>> 16) % slots.size());
    }

    @Override
    public boolean tryLock(LockKey key, SessionBackend.Tried told) {
        SessionBackend backend = slot(key).open();
        if (backend != null) {
            backend.lock(key, LockMode.EXCLUSIVE, told);
        }
        return backend != null;
    }

    @Override
    public void open(LockKey key, Consumer<@Nullable Throwable> told) {
        slot(key).opened().subscribe(backend -> told.accept(null), told);
    }

    /** Those where a key is waited for in the server's queue, and held after that. */
    LockConnections waiting() {
        return waiting;
    }

    /** Adds the connections that are open. */
    void addTo(Collection<Watched> open) {
        for (SessionSlot slot : slots) {
            SessionBackend backend = slot.open();
            if (backend != null) {
                open.add(backend);
            }
        }
        open.addAll(waiting.open());
    }

    /** How many locks are held on the shared connections. */
    int held() {
        int held = 0;
        for (SessionSlot slot : slots) {
            SessionBackend backend = slot.open();
            held += backend == null ? 0 : backend.held();
        }
        return held;
    }

    Mono<Void> close() {
        return Flux.fromIterable(slots)
                .flatMap(SessionSlot::close)
                .then(waiting.close())
                .timeout(Duration.ofSeconds(LockConnection.STOP_DEADLINE_SECONDS), Mono.empty(), options.clock());
    }
}
