package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/**
 * Requests in transactions of somebody else's, cancelled after 0 to 8 ms: their owners never notice. Where that is too soon for this
 * machine, and hardly any comes to its end, or too late, they go on.
 */
class AmbientStormIT {

    private static final Logger LOG = LoggerFactory.getLogger(AmbientStormIT.class);
    private static final int OWNERS = 4;
    private static final boolean LONG = Boolean.getBoolean("long");

    /** Of each owner, at least. */
    private static final int ROUNDS = LONG ? 10_000 : 500;

    private static final int MOST_ROUNDS = 4 * ROUNDS;

    /** How many there are of each outcome in the end. */
    private static final int ENOUGH = OWNERS * ROUNDS / 100;

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    private final Sessions sessions = new Sessions(server);
    private final Scheduler canceller = Schedulers.newParallel("canceller", 2);
    private final AtomicReference<@Nullable Work> inside = new AtomicReference<>();
    private final AtomicInteger overlaps = new AtomicInteger();
    private final AtomicInteger done = new AtomicInteger();
    private final AtomicInteger begun = new AtomicInteger();

    @AfterEach
    void close() {
        sessions.close();
        canceller.dispose();
    }

    @Test
    void cancelledAtEveryInstant_theTransactionsOfTheirOwnersGoOn() {
        server.execute("create table if not exists ambient_storm (id int)", "truncate ambient_storm");
        DefaultAdvisoryLocks locks =
                clients.on(server, residue, builder -> builder.ambientTransaction(OwnedTransaction.IN_CONTEXT));
        residue.zero("ambient transactions", locks::ambient);
        residue.zero("live", locks::live);
        residue.zero("waiting", locks::waiting);
        List<PostgresqlConnection> connections =
                IntStream.range(0, OWNERS).mapToObj(i -> sessions.open()).toList();
        AtomicBoolean over = new AtomicBoolean();
        Mono<Long> owners = Flux.fromIterable(connections)
                .flatMap(connection -> round(locks, connection).repeat(this::goesOn), OWNERS)
                .count()
                .doFinally(signal -> over.set(true));
        Mono<Integer> others = locks.withAdvisoryLock(LockKey.of(161), exclusive(new AtomicBoolean()))
                .delayElement(Duration.ofMillis(1))
                .repeat(() -> !over.get())
                .then(Mono.just(1));
        long rounds = Objects.requireNonNull(
                Mono.zip(owners, others, (count, one) -> count).block(Duration.ofMinutes(LONG ? 30 : 5)));

        assertThat(rounds).isGreaterThanOrEqualTo((long) OWNERS * ROUNDS);
        assertThat(server.count("select count(*) from ambient_storm")).isEqualTo(rounds);
        assertThat(overlaps).hasValue(0);
        LOG.info("{} rounds, {} not cancelled", rounds, done.get());
        assertThat(done.get()).isBetween(ENOUGH, (int) rounds - ENOUGH);
    }

    /** In the order in which they come, whichever owner's they are. */
    private boolean goesOn() {
        int rounds = begun.get();
        boolean few = done.get() < ENOUGH || rounds - done.get() < ENOUGH;
        return rounds < OWNERS * ROUNDS || (few && rounds < OWNERS * MOST_ROUNDS);
    }

    /** Each transaction asks once, whatever comes of it writes a row, and commits. */
    private Mono<Integer> round(DefaultAdvisoryLocks locks, PostgresqlConnection connection) {
        return Mono.defer(() -> {
            OwnedTransaction transaction = OwnedTransaction.notBegun(connection);
            AtomicBoolean cancelled = new AtomicBoolean();
            int extra = begun.getAndIncrement() / (OWNERS * ROUNDS);
            int span = done.get() < ENOUGH ? 8_000 << (2 * extra) : 8_000 >> (2 * extra);
            long micros = ThreadLocalRandom.current().nextInt(Math.max(200, span));
            Mono<?> cancel = micros < 100 ? Mono.just(1) : Mono.delay(Duration.ofNanos(micros * 1_000), canceller);
            return Sessions.send(connection, "begin")
                    .then(transaction
                            .around(call(locks, cancelled))
                            .doOnNext(value -> done.incrementAndGet())
                            .doOnCancel(() -> cancelled.set(true))
                            .takeUntilOther(cancel))
                    .then(Sessions.send(connection, "insert into ambient_storm values (1)"))
                    .then(Mono.fromRunnable(transaction::completes))
                    .then(connection.commitTransaction())
                    .thenReturn(1);
        });
    }

    private Mono<Integer> call(DefaultAdvisoryLocks locks, AtomicBoolean cancelled) {
        LockKey hot = LockKey.of(161);
        LockKey other = LockKey.of(200 + ThreadLocalRandom.current().nextInt(20));
        return switch (ThreadLocalRandom.current().nextInt(6)) {
            case 0 -> locks.withAdvisoryLock(hot, exclusive(cancelled));
            case 1 -> locks.exclusive(hot, other).polling().guard(exclusive(cancelled));
            case 2 -> locks.exclusive(hot).skipIfBusy().guard(exclusive(cancelled));
            case 3 ->
                Flux.range(0, 3)
                        .flatMap(i -> locks.withAdvisoryLock(hot, exclusive(cancelled)))
                        .reduce(Integer::sum);
            case 4 ->
                locks.exclusive(other)
                        .guard(hold -> NestingClients.one(hold.connection(), "select pg_sleep(0.001)")
                                .thenReturn(1));
            default -> locks.withAdvisoryLock(hot, locks.withAdvisoryLock(other, exclusive(cancelled)));
        };
    }

    /** Whether the request was cancelled, told before it is: what it runs may be running still when its lock is free. */
    private record Work(AtomicBoolean cancelled) {}

    private Mono<Integer> exclusive(AtomicBoolean cancelled) {
        return Mono.defer(() -> {
            Work own = new Work(cancelled);
            Work other = inside.getAndSet(own);
            if (other != null && !other.cancelled().get() && !cancelled.get()) {
                overlaps.incrementAndGet();
            }
            // before the hold hears of it
            return Mono.just(1)
                    .doOnTerminate(() -> inside.compareAndSet(own, null))
                    .doOnCancel(() -> inside.compareAndSet(own, null));
        });
    }
}
