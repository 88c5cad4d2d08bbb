package io.r2lock;

import static io.r2lock.TestClients.execute;

import java.time.Duration;
import java.util.List;
import java.util.Random;
import java.util.function.Function;
import java.util.function.Supplier;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/**
 * Takes random holds of few keys in random modes, a few at a time.
 *
 * <p>Most are short, for many changes of holders. Some last for seconds, on keys of their own: only they live long enough
 * for a silent cut to matter.
 */
final class RandomHolds implements LabProcess.Role {

    private static final int WORKERS = 5;
    private static final int SHORT_KEYS = 4;
    static final long LASTING_KEY = 100;
    private static final int LASTING_KEYS = 3;
    private static final Duration PATIENCE = Duration.ofSeconds(25);
    private static final Duration PAUSE = Duration.ofMillis(50);

    private final AdvisoryLocks client;
    private final LabProcess process;
    private final HoldLog log;
    private final Random random;
    private final Sinks.Empty<Void> ending = Sinks.empty();
    private final Sinks.Empty<Void> ended = Sinks.empty();
    private volatile boolean running = true;

    RandomHolds(LabProcess process, HoldLog log, long seed) {
        this.client = process.client().build();
        this.process = process;
        this.log = log;
        this.random = new Random(seed);
        Flux.range(0, WORKERS)
                .flatMap(worker -> forEver(worker == 0 ? this::lasting : this::brief), WORKERS)
                .subscribe(done -> {}, ended::tryEmitError, ended::tryEmitEmpty);
    }

    @Override
    public void command(String line) {
        throw new IllegalArgumentException(line);
    }

    @Override
    public void end() {
        running = false;
        ending.tryEmitEmpty();
        ended.asMono().block(PATIENCE.multipliedBy(2));
        client.close().block(PATIENCE);
    }

    private Mono<Void> forEver(Supplier<Mono<Void>> one) {
        return Mono.defer(one)
                .then(Mono.delay(Duration.ofMillis(random.nextInt(20))))
                .repeat(() -> running)
                .then();
    }

    private Mono<Void> lasting() {
        boolean exclusive = random.nextInt(4) != 0;
        List<Long> keys = List.of(LASTING_KEY + random.nextInt(LASTING_KEYS));
        Mono<?> work = Mono.delay(Duration.ofMillis(4_000 + random.nextInt(14_000)))
                .then()
                .or(ending.asMono());
        LoggedWork hold = new LoggedWork(log, exclusive, keys);
        // the only one of its process for these keys, so that also a session lock is released on the server
        LockRequest request =
                request(process.inSession(random), exclusive, keys).waitAtMost(Duration.ofSeconds(4));
        return paced(
                hold,
                hold.call(request.guard((HeldLock held) -> hold.work(held, () -> work)), LabHold.Outcome.RELEASED));
    }

    private Mono<Void> brief() {
        boolean exclusive = random.nextInt(3) != 0;
        List<Long> keys = random.nextInt(6) == 0
                ? random.longs(0, SHORT_KEYS).distinct().limit(2).boxed().toList()
                : List.of((long) random.nextInt(SHORT_KEYS));
        LoggedWork hold = new LoggedWork(log, exclusive, keys);
        boolean inSession = process.inSession(random);
        return paced(hold, form(hold, wait(request(inSession, exclusive, keys)), inSession));
    }

    private LockRequest request(boolean inSession, boolean exclusive, List<Long> numbers) {
        List<LockKey> keys = numbers.stream().map(LockKey::of).toList();
        LockRequest request = exclusive ? client.exclusive(keys) : client.shared(keys);
        LockRequest scoped = inSession ? request.inSession() : request;
        return random.nextInt(8) == 0 ? scoped.polling() : scoped;
    }

    private LockRequest wait(LockRequest request) {
        return switch (random.nextInt(4)) {
            case 0 -> request.noWait();
            case 1 -> request.waitAtMost(Duration.ofMillis(20 + random.nextInt(2_000)));
            default -> request.waitForever();
        };
    }

    private Duration millis() {
        return Duration.ofMillis(random.nextInt(8) == 0 ? random.nextInt(400) : 2 + random.nextInt(60));
    }

    private Mono<Void> form(LoggedWork hold, LockRequest request, boolean inSession) {
        Duration time = millis();
        // a session lock may be handed over to the next of this process, which the server does not hear of
        LabHold.Outcome success = inSession ? LabHold.Outcome.ENDED : LabHold.Outcome.RELEASED;
        Mono<Void> plain = request.guard((HeldLock held) -> hold.work(held, () -> Mono.delay(time)));
        return switch (random.nextInt(8)) {
            case 0, 1 ->
                hold.call(
                        request.guard((HeldLock held) ->
                                hold.work(held, () -> inSession ? Mono.delay(time) : sql(held, time))),
                        success);
            case 2 -> hold.call(acquired(hold, request, time, HeldLock::commit), success);
            case 3 -> hold.call(acquired(hold, request, time, HeldLock::release), LabHold.Outcome.ENDED);
            case 4 -> hold.call(plain, success).takeUntilOther(Mono.delay(Duration.ofMillis(random.nextInt(80))));
            default -> hold.call(plain, success);
        };
    }

    private static Mono<Void> sql(HeldLock held, Duration time) {
        return execute(held, "select pg_sleep(" + time.toMillis() / 2_000.0 + ")")
                .then(Mono.delay(time.dividedBy(2)))
                .then();
    }

    private static Mono<Void> acquired(
            LoggedWork hold, LockRequest request, Duration time, Function<HeldLock, Mono<Void>> ending) {
        return Mono.usingWhen(
                request.acquire(),
                held -> held.guard(hold.work(held, () -> Mono.delay(time))).then(Mono.defer(() -> ending.apply(held))),
                HeldLock::release);
    }

    /** Bounds a wait that a silent cut could make endless, and does not ask a server in vain too often. */
    private static Mono<Void> paced(LoggedWork hold, Mono<Void> call) {
        return call.takeUntilOther(Mono.delay(PATIENCE))
                .then(Mono.defer(() -> hold.hasBegun() ? Mono.empty() : Mono.delay(PAUSE)))
                .then();
    }
}
