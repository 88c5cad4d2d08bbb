package io.r2lock;

import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** What the calls of a storm do. */
final class StormWork {

    static final int FEW = 24;
    static final int MANY = 1_000;
    static final int NESTED = 100;

    private StormWork() {}

    /** A call of one of twelve kinds. */
    static Publisher<?> any(DefaultAdvisoryLocks client, int kind, StormCall self) {
        LockKey few = LockKey.of(ThreadLocalRandom.current().nextInt(24));
        LockKey many = LockKey.of(1_000 + ThreadLocalRandom.current().nextInt(1_000));
        Mono<Long> work =
                Mono.delay(Duration.ofNanos(ThreadLocalRandom.current().nextInt(1_000_000)));
        return switch (kind) {
            case 0 -> client.withAdvisoryLock(few, work);
            case 1 -> client.withAdvisoryLock(many, work.then(Mono.error(Storm.Planted::new)));
            case 2 -> client.exclusive(few).waitAtMost(Duration.ofMillis(1)).guard(work);
            case 3 ->
                client.withAdvisoryLock(
                        few,
                        self.doing(
                                StormCall.Doing.NESTED, client.withAdvisoryLock(LockKey.of(few.value() + 100), work)));
            case 4 -> Mono.usingWhen(client.exclusive(many).acquire(), hold -> work, HeldLock::release);
            case 5 -> client.shared(few).guard(work);
            case 6 -> client.exclusive(few, many, LockKey.of(5)).guard(work);
            case 7 -> client.exclusive(few).skipIfBusy().guard(work);
            case 8 -> client.exclusive(many).guard(hold -> self.doing(StormCall.Doing.SQL, sleep(hold)));
            case 9 ->
                client.exclusive(few)
                        .guardMany(hold -> work.flux().concatWith(Flux.never()))
                        .take(1);
            case 10 -> client.withAdvisoryLock(few, work).timeout(Duration.ofMillis(1));
            default -> client.withAdvisoryLock(many, work.timeout(Duration.ofNanos(300_000)));
        };
    }

    /** A call of one of twelve kinds, all but one in session scope. */
    static Publisher<?> inSession(DefaultAdvisoryLocks client, int kind, StormCall self) {
        LockKey few = LockKey.of(ThreadLocalRandom.current().nextInt(FEW));
        LockKey many = LockKey.of(1_000 + ThreadLocalRandom.current().nextInt(MANY));
        LockRequest exclusive = client.exclusive(few).inSession();
        Mono<Long> work =
                Mono.delay(Duration.ofNanos(ThreadLocalRandom.current().nextInt(1_000_000)));
        return switch (kind) {
            case 0 -> exclusive.guard(work);
            case 1 -> client.exclusive(many).inSession().guard(work.then(Mono.error(Storm.Planted::new)));
            case 2 -> exclusive.waitAtMost(Duration.ofMillis(1)).guard(work);
            case 3 ->
                exclusive.guard(self.doing(
                        StormCall.Doing.NESTED,
                        client.exclusive(LockKey.of(few.value() + NESTED))
                                .inSession()
                                .waitAtMost(Duration.ofSeconds(10))
                                .guard(work)));
            case 4 -> Mono.usingWhen(exclusive.acquire(), hold -> work, HeldLock::release);
            case 5 -> client.shared(few).inSession().guard(work);
            case 6 -> client.exclusive(few, many, LockKey.of(5)).inSession().guard(work);
            case 7 -> exclusive.skipIfBusy().guard(work);
            case 8 -> exclusive.guard(self.doing(StormCall.Doing.NESTED, exclusive.guard(work)));
            case 9 ->
                exclusive
                        .guardMany(hold -> work.flux().concatWith(Flux.never()))
                        .take(1);
            case 10 -> exclusive.guard(work).timeout(Duration.ofMillis(1));
            default -> client.exclusive(few).guard(work);
        };
    }

    /** One millisecond of SQL on the lock's connection. */
    static Mono<Long> sleep(HeldLock hold) {
        return Flux.from(hold.connection()
                        .createStatement("select pg_sleep(0.001)")
                        .execute())
                .concatMap(result -> result.map((row, metadata) -> 1L))
                .next();
    }
}
