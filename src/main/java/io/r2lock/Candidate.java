package io.r2lock;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Publisher;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.Disposable;
import reactor.core.Disposables;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;

/**
 * One subscription to {@link LeaderElection#lead}.
 *
 * <pre>
 *   CAMPAIGNING ──granted, token──▶ LEADING (a {@link Term}) ──work completed, or failed──▶ the end
 *     │   ▲                            │
 *     │   │                            │ lost, or resigned
 *     │   └───────── PAUSING ◀─────────┘
 *     └─not granted──▶ ▲
 * </pre>
 *
 * <p>One campaign is one guarded request, and the next begins only after that has ended: so the work of a term is cancelled, and
 * its lock given back, before the candidate campaigns again. What ended a term is the {@link Term}'s to tell, never the class of
 * an error: work may fail with the errors of other locks.
 *
 * <p>The fields are used by one campaign after the other, never at once.
 */
final class Candidate<T> {

    static final int WAIT_SECONDS = 30;
    /** Longer than the pauses of those that poll, or they would never find the key free. */
    static final int PAUSE_MILLIS = 500;

    /** A server that restarts is no news; after so many failures in a row, which take two seconds or more, it is. */
    static final int FAILURES_TO_WARN = 5;

    private static final Logger LOG = LoggerFactory.getLogger(Candidate.class);
    private static final long FIRST_BACKOFF_MILLIS = 100;
    private static final long LONGEST_BACKOFF_MILLIS = 5_000;

    /**
     * The latest campaign, which a cancel ends by itself, not only through the operators: one that subscribes anew, as {@code
     * repeatWhen} and {@code onErrorResume}, can lose a cancel that crosses with that. Reactor 3.8's {@code
     * MultiSubscriptionSubscriber.set} looks whether it is cancelled before it sets the new subscription, and not after.
     */
    private final Disposable.Swap guard = Disposables.swap();

    private final DefaultAdvisoryLocks client;
    private final LockKey key;
    private final Function<HeldLock, Mono<FencingToken>> tokens;
    private final LeadershipEvents events;
    private final Function<? super Leadership, ? extends Publisher<T>> work;

    private final Backoff backoff = new Backoff(FIRST_BACKOFF_MILLIS, LONGEST_BACKOFF_MILLIS);
    private int failures;
    private @Nullable Term<T> term;
    private @Nullable Throwable error;
    /** Until the next campaign; {@code null}: there is none. */
    private @Nullable Duration pause;

    Candidate(
            DefaultAdvisoryLocks client,
            LockKey key,
            Function<HeldLock, Mono<FencingToken>> tokens,
            LeadershipEvents events,
            Function<? super Leadership, ? extends Publisher<T>> work) {
        this.client = client;
        this.key = key;
        this.tokens = tokens;
        this.events = events;
        this.work = work;
    }

    Flux<T> lead() {
        return Flux.defer(this::campaign)
                .repeatWhen(ends -> ends.takeWhile(items -> pause != null).concatMap(items -> rest()))
                .doOnCancel(guard::dispose);
    }

    private Flux<T> campaign() {
        term = null;
        error = null;
        pause = null;
        return client.exclusive(key)
                .inSession()
                .waitAtMost(Duration.ofMillis(jittered(WAIT_SECONDS * 1_000L)))
                .guardMany(this::granted)
                .doOnSubscribe(guarded -> guard.replace(guarded::cancel))
                .onErrorResume(why -> {
                    error = why;
                    return Flux.empty();
                })
                .concatWith(Flux.defer(this::next));
    }

    private Flux<T> granted(HeldLock hold) {
        if (hold instanceof SessionHold held) {
            held.mayLast();
        }
        Mono<FencingToken> token = tokens.apply(hold);
        Scheduler scheduler = client.options().workScheduler();
        // the token comes on the connection's event loop
        return (scheduler == null ? token : token.publishOn(scheduler)).flatMapMany(number -> {
            Term<T> begun = new Term<>(hold, number, events, work);
            term = begun;
            failures = 0;
            backoff.reset();
            return begun;
        });
    }

    /** The campaign is over, and nothing of it is left: what comes now. */
    private Flux<T> next() {
        Term<T> ended = term;
        Term.State how = ended == null ? Term.State.NEW : ended.state();
        switch (how) {
            case COMPLETED -> {}
            case FAILED -> {
                return Flux.error(Objects.requireNonNull(ended).failure());
            }
            case RESIGNED ->
                pause = Duration.ofMillis(
                        PAUSE_MILLIS + ThreadLocalRandom.current().nextLong(PAUSE_MILLIS / 2));
            case NEW, CANCELLED -> {
                Throwable why = Objects.requireNonNull(error, "A campaign ended without a reason");
                if (!(why instanceof AdvisoryLockException) || why instanceof LocksClosedException) {
                    return Flux.error(why);
                }
                pause = how == Term.State.NEW ? afterFailure(why) : Duration.ofMillis(backoff.nextMillis());
            }
            default -> throw new IllegalStateException(how + " after the end");
        }
        return Flux.empty();
    }

    private Duration afterFailure(Throwable why) {
        if (why instanceof LockTimeoutException) {
            // the server was reached, and somebody else leads
            failures = 0;
            backoff.reset();
            return Duration.ZERO;
        }
        failures++;
        LOG.debug("Campaign {} in a row failed for {}", failures, key, why);
        if (failures >= FAILURES_TO_WARN && why instanceof AdvisoryLockException known) {
            client.options()
                    .warnings()
                    .warn("No part in the election on " + key.label() + ": " + failures
                            + " campaigns in a row failed, the"
                            + " last with " + known.getClass().getSimpleName()
                            + (known.sqlState() == null ? "" : " (SQLSTATE " + known.sqlState() + ")")
                            + (known.getCause() == null ? "" : ": " + known.getCause())
                            + ". It goes on trying.");
        }
        return Duration.ofMillis(backoff.nextMillis());
    }

    private Mono<?> rest() {
        Duration rest = Objects.requireNonNull(pause);
        return rest.isZero()
                ? Mono.just(rest)
                : Mono.delay(rest, client.options().clock());
    }

    /** Give or take half, so that candidates are not in step. */
    private static long jittered(long millis) {
        return millis / 2 + ThreadLocalRandom.current().nextLong(millis);
    }
}
