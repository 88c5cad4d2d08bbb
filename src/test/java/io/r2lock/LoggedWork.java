package io.r2lock;

import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import reactor.core.publisher.Mono;

/** One hold of a lab process: logs when its work begins and ends, and what its caller was told. */
final class LoggedWork {

    private static final AtomicInteger NUMBERS = new AtomicInteger();

    private final HoldLog log;
    private final boolean exclusive;
    private final List<Long> keys;
    private final String id = Integer.toString(NUMBERS.incrementAndGet());
    private final AtomicBoolean begun = new AtomicBoolean();

    LoggedWork(HoldLog log, boolean exclusive, List<Long> keys) {
        this.log = log;
        this.exclusive = exclusive;
        this.keys = keys;
    }

    /** The work of a hold, which logs its end before whoever runs it can release the lock. */
    Mono<Void> work(HeldLock held, Supplier<? extends Mono<?>> work) {
        return work(held instanceof SessionHold session ? session.backendPids() : List.of(held.backendPid()), work);
    }

    /** The same, for a hold on these server processes. */
    Mono<Void> work(List<Integer> backends, Supplier<? extends Mono<?>> work) {
        return Mono.defer(() -> {
                    begun.set(true);
                    log.begin(id, exclusive, keys, backends);
                    return work.get().then();
                })
                .doOnTerminate(() -> log.end(id))
                .doOnCancel(() -> log.end(id));
    }

    /** Asks for the hold's fencing token, and logs it. */
    Mono<FencingToken> token(HeldLock held) {
        return held.fencingToken().doOnNext(token -> log.token(id, token.asLong()));
    }

    /** The whole call, with what it tells its caller; never fails. */
    Mono<Void> call(Mono<Void> call, LabHold.Outcome success) {
        return call.doOnSuccess(done -> tell(success))
                .doOnCancel(() -> tell(LabHold.Outcome.CANCELLED))
                .onErrorResume(error -> {
                    if (begun.get()) {
                        tell(outcome(error));
                    } else {
                        log.refused(error);
                    }
                    return Mono.empty();
                });
    }

    boolean hasBegun() {
        return begun.get();
    }

    private void tell(LabHold.Outcome outcome) {
        if (begun.get()) {
            log.told(id, outcome);
        }
    }

    private static LabHold.Outcome outcome(Throwable error) {
        if (error instanceof LockLostException) {
            return LabHold.Outcome.LOST;
        }
        return error instanceof CommitOutcomeUnknownException ? LabHold.Outcome.UNKNOWN : LabHold.Outcome.FAILED;
    }
}
