package io.r2lock;

import java.time.Duration;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** Takes holds of few keys, as short as can be, and asks each for its fencing token. */
final class TokenHolds implements LabProcess.Role {

    private static final int WORKERS = 6;
    private static final int KEYS = 3;
    private static final Duration PATIENCE = Duration.ofSeconds(25);

    private final AdvisoryLocks client;
    private final LabProcess process;
    private final HoldLog log;
    private final Random random;
    private final Sinks.Empty<Void> ended = Sinks.empty();
    private volatile boolean running = true;

    TokenHolds(LabProcess process, HoldLog log, long seed) {
        this.client = process.client().sessionConnections(2).build();
        this.process = process;
        this.log = log;
        this.random = new Random(seed);
        Flux.range(0, WORKERS)
                .flatMap(worker -> Mono.defer(this::one).repeat(() -> running).then(), WORKERS)
                .subscribe(done -> {}, ended::tryEmitError, ended::tryEmitEmpty);
    }

    private Mono<Void> one() {
        boolean exclusive = random.nextInt(6) != 0;
        List<Long> keys = random.nextInt(8) == 0
                ? Stream.of(0L, 1L, 2L)
                        .filter(key -> random.nextInt(3) > 0 || key == 0L)
                        .toList()
                : List.of((long) random.nextInt(KEYS));
        List<LockKey> locked = keys.stream().map(key -> LockKey.of(900 + key)).toList();
        boolean inSession = process.inSession(random);
        LockRequest request = exclusive ? client.exclusive(locked) : client.shared(locked);
        LockRequest scoped = (inSession ? request.inSession() : request).waitAtMost(Duration.ofSeconds(10));
        LoggedWork hold = new LoggedWork(log, exclusive, keys);
        return hold.call(
                        scoped.guard((HeldLock held) -> hold.work(held, () -> hold.token(held))),
                        inSession ? LabHold.Outcome.ENDED : LabHold.Outcome.RELEASED)
                .then(Mono.defer(() -> hold.hasBegun() ? Mono.empty() : Mono.delay(Duration.ofMillis(20))))
                .then();
    }

    @Override
    public void command(String line) {
        throw new IllegalArgumentException(line);
    }

    @Override
    public void end() {
        running = false;
        ended.asMono().block(PATIENCE);
        client.close().block(PATIENCE);
    }
}
