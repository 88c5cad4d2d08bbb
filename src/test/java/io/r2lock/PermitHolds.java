package io.r2lock;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicBoolean;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** Takes permits of one key, by a few callers at a time, each waiting as long as it takes. */
final class PermitHolds implements LabProcess.Role {

    static final long KEY = 1;
    static final int CALLERS = 4;
    private static final int LONGEST_MILLIS = 10;
    private static final Duration PATIENCE = Duration.ofSeconds(25);

    private final AdvisoryLocks client;
    private final HoldLog log;
    private final LockRequest request;
    private final Sinks.Empty<Void> ending = Sinks.empty();
    private final Sinks.Empty<Void> ended = Sinks.empty();

    PermitHolds(LabProcess process, HoldLog log, int permits) {
        this.client = process.client().connectTimeout(PATIENCE).build();
        this.log = log;
        this.request = client.permit(LockKey.of(KEY), permits).waitForever();
        Flux.range(0, CALLERS)
                .flatMap(caller -> Mono.defer(this::one).repeat(), CALLERS)
                .takeUntilOther(ending.asMono())
                .subscribe(done -> {}, ended::tryEmitError, ended::tryEmitEmpty);
    }

    private Mono<Void> one() {
        LoggedWork hold = new LoggedWork(log, true, List.of(KEY));
        Duration time = Duration.ofMillis(ThreadLocalRandom.current().nextInt(LONGEST_MILLIS));
        long since = System.nanoTime();
        AtomicBoolean told = new AtomicBoolean();
        Runnable tell = () -> {
            if (told.compareAndSet(false, true)) {
                log.waited(System.nanoTime() - since);
            }
        };
        Mono<Void> call = request.guard((HeldLock held) -> {
            tell.run();
            return hold.work(held, () -> Mono.delay(time));
        });
        return hold.call(call.doFinally(signal -> tell.run()), LabHold.Outcome.RELEASED);
    }

    @Override
    public void command(String line) {
        throw new IllegalArgumentException(line);
    }

    @Override
    public void end() {
        ending.tryEmitEmpty();
        ended.asMono().block(PATIENCE);
        client.close().block(PATIENCE);
    }
}
