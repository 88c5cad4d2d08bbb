package io.r2lock;

import io.r2lock.AdvisoryLockException.Failure;
import io.r2lock.AdvisoryLockException.LockAttempt;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Publisher;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.util.context.ContextView;

/**
 * The client: what is alive in it, and its end.
 *
 * <p>{@code OPEN ──close──▶ CLOSING ──last hold ended, or grace over──▶ connections closed}. An attempt is first entered in
 * {@code live} and then looks whether the client is closing, while closing first says so and then looks at {@code live}: so
 * none is missed.
 */
final class DefaultAdvisoryLocks implements AdvisoryLocks {

    private static final Logger LOG = LoggerFactory.getLogger(DefaultAdvisoryLocks.class);

    private final ClientOptions options;
    private final HoldReports reports;
    private final Collisions collisions;
    private final LockConnections connections;
    private final SessionLocks sessions;
    private final KeyGates gates;
    private final PermitGates permits;
    private final ConnectionSource source;
    private final Heartbeat heartbeat;
    private final Set<Acquire> live = ConcurrentHashMap.newKeySet();
    private final Admission admission;
    private final Disposable tick;
    private final Sinks.Empty<Void> drained = Sinks.empty();
    private final Mono<Void> close;
    private volatile boolean closing;
    private volatile boolean endsHolds;

    DefaultAdvisoryLocks(ConnectionSource source, ClientOptions options) {
        this.options = options;
        this.reports = new HoldReports(options);
        this.source = source;
        this.collisions = new Collisions(reports::collision);
        this.admission = new Admission(this);
        this.gates = new KeyGates(options.handOffLimit(), collisions);
        this.connections = new LockConnections(source::open, options, options.maxConnections());
        this.sessions = new SessionLocks(source, options);
        this.permits = new PermitGates(sessions, options.handOffLimit(), options.clock(), collisions);
        this.heartbeat = new Heartbeat(source, this::watched, options);
        this.close = Mono.defer(this::startToClose).cache();
        this.tick = options.clock().schedulePeriodically(this::tick, 1, 1, TimeUnit.SECONDS);
    }

    ClientOptions options() {
        return options;
    }

    LockConnections connections() {
        return connections;
    }

    SessionLocks sessions() {
        return sessions;
    }

    LockCapacityException.@Nullable Settings lockTable() {
        return source.lockTable();
    }

    Collisions collisions() {
        return collisions;
    }

    Collection<Watched> open() {
        List<Watched> open = new ArrayList<>(connections.open());
        sessions.addTo(open);
        return open;
    }

    private Collection<Watched> watched() {
        Collection<Watched> watched = open();
        watched.addAll(ambientHolds());
        return watched;
    }

    /** Holds in ambient transactions, whose backends are watched. */
    Set<AmbientHold> ambientHolds() {
        return admission.ambient().holds();
    }

    KeyGates gates() {
        return gates;
    }

    PermitGates permits() {
        return permits;
    }

    /** Attempts that wait, and holds. */
    int live() {
        return live.size();
    }

    /** Ambient transactions that something is known of. */
    int ambient() {
        return admission.ambient().scopes().size();
    }

    /** Attempts that count against {@code maxWaiters}. */
    int waiting() {
        return admission.waiting();
    }

    long now() {
        return options.clock().now(TimeUnit.NANOSECONDS);
    }

    @Override
    public <T> Mono<T> withAdvisoryLock(LockKey key, Mono<T> work) {
        return exclusive(key).guard(work);
    }

    @Override
    public <T> Flux<T> withAdvisoryLock(LockKey key, Publisher<T> work) {
        return request(Arguments.keys(key), LockMode.EXCLUSIVE, false).guardPublisher(work);
    }

    @Override
    public <T> Mono<T> tryWithAdvisoryLock(LockKey key, Mono<T> work) {
        return exclusive(key).noWait().guard(work);
    }

    @Override
    public <T> Flux<T> tryWithAdvisoryLock(LockKey key, Publisher<T> work) {
        return request(Arguments.keys(key), LockMode.EXCLUSIVE, true).guardPublisher(work);
    }

    @Override
    public LockRequest exclusive(LockKey key, LockKey... more) {
        return request(collisions.within(Arguments.keys(key, more), more), LockMode.EXCLUSIVE, false);
    }

    @Override
    public LockRequest exclusive(Collection<LockKey> keys) {
        return request(collisions.within(Arguments.keys(keys), keys), LockMode.EXCLUSIVE, false);
    }

    @Override
    public LockRequest shared(LockKey key, LockKey... more) {
        return request(collisions.within(Arguments.keys(key, more), more), LockMode.SHARED, false);
    }

    @Override
    public LockRequest shared(Collection<LockKey> keys) {
        return request(collisions.within(Arguments.keys(keys), keys), LockMode.SHARED, false);
    }

    @Override
    public LockRequest permit(LockKey key, int permits) {
        Arguments.notNull("key", key);
        Arguments.inRange("permits", permits, 1, MOST_PERMITS);
        return new DefaultLockRequest(this, LockSpec.permit(key, permits, options.defaultWait()));
    }

    @Override
    public LeaderElection leaderElection(LockKey key) {
        return new DefaultLeaderElection(this, Arguments.notNull("key", key), HeldLock::fencingToken);
    }

    @Override
    public <R, V> Flux<V> flatMapLocked(
            Publisher<R> source,
            Function<? super R, LockRequest> lockOf,
            Function<? super R, ? extends Publisher<V>> work,
            int concurrency) {
        return new KeyedFlux<>(this, source, lockOf, work, concurrency);
    }

    private DefaultLockRequest request(List<LockKey> keys, LockMode mode, boolean noWait) {
        Duration wait = noWait ? null : options.defaultWait();
        return new DefaultLockRequest(
                this, noWait ? LockSpec.of(keys, mode, wait).notWaiting(false) : LockSpec.of(keys, mode, wait));
    }

    /** Tells the receiver a new attempt, which {@link #begin} starts, or an error. */
    void attempt(LockSpec spec, ContextView context, Acquire.Receiver receiver) {
        admission.admit(spec, context, receiver);
    }

    void begin(Acquire attempt) {
        live.add(attempt);
        if (closing) {
            attempt.stop(Acquire.Stop.CLOSED);
        }
        attempt.start();
        if (attempt.isEnded()) {
            // by a cancel that came before it was entered, and so did not find it to remove
            ended(attempt);
        }
    }

    void granted(Acquire attempt) {
        admission.left();
        LOG.debug("Granted {}", attempt.spec);
    }

    void notGranted(Acquire attempt) {
        admission.left();
        ended(attempt);
    }

    void ended(Acquire attempt) {
        live.remove(attempt);
        if (closing && live.isEmpty()) {
            drained.tryEmitEmpty();
        }
    }

    @Override
    public Flux<LockInfo> inspect() {
        return Inspection.of(this, source, live);
    }

    @Override
    public Mono<SelfCheck> selfCheck() {
        return Mono.defer(() -> {
            LockKey probe = LockKey.of(ThreadLocalRandom.current().nextLong());
            LockAttempt asked = new LockAttempt(List.of(probe), LockMode.EXCLUSIVE, Duration.ZERO);
            if (closing) {
                return Mono.error(new LocksClosedException("The client is closed: no self-check", asked, null));
            }
            return source.selfCheck(probe)
                    .onErrorMap(error -> new LockServerException(
                            "No self-check: " + error.getMessage(), asked, new Failure(error, SqlStates.of(error))));
        });
    }

    @Override
    public Mono<Void> close() {
        return close;
    }

    private Mono<Void> startToClose() {
        closing = true;
        admission.ambient().close();
        for (Acquire attempt : live) {
            attempt.stop(Acquire.Stop.CLOSED);
        }
        // only now: nobody is left who would take over what they keep
        for (Acquire attempt : live) {
            attempt.endTail();
        }
        if (live.isEmpty()) {
            drained.tryEmitEmpty();
        }
        return drained.asMono()
                .timeout(options.closeGrace(), Mono.defer(this::endHolds), options.clock())
                .then(connections.close())
                .then(sessions.close())
                .then(heartbeat.close())
                .doFinally(signal -> tick.dispose());
    }

    boolean isClosing() {
        return closing;
    }

    /** The grace is over: every hold is ended. */
    boolean endsHolds() {
        return endsHolds;
    }

    private Mono<Void> endHolds() {
        endsHolds = true;
        for (Acquire attempt : live) {
            attempt.endHold(Acquire.Stop.CLOSED);
        }
        return drained.asMono();
    }

    private void tick() {
        try {
            long now = now();
            connections.closeOverdue(now);
            sessions.waiting().closeOverdue(now);
            options.warnings().flush();
            for (Acquire attempt : live) {
                Hold hold = attempt.hold();
                if (hold != null && hold == hold.root()) {
                    hold.warnIfLong(now);
                }
            }
        } catch (RuntimeException thrown) {
            // a subscriber's, who was told an error; the next second must come all the same
            LOG.error("A subscriber failed in its error signal", thrown);
        }
    }

    HoldReports reports() {
        return reports;
    }
}
