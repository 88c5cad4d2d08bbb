package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
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

/** Requests in transactions of somebody else's, cancelled after 0 to 8 ms: their owners never notice. */
class AmbientStormIT {

    private static final Logger LOG = LoggerFactory.getLogger(AmbientStormIT.class);
    private static final int OWNERS = 4;
    private static final int ROUNDS = Boolean.getBoolean("long") ? 10_000 : 500;

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    private final Sessions sessions = new Sessions(server);
    private final Scheduler canceller = Schedulers.newParallel("canceller", 2);
    private final Set<Entry> inside = ConcurrentHashMap.newKeySet();
    private final AtomicInteger overlaps = new AtomicInteger();
    private final AtomicInteger done = new AtomicInteger();

    /** Work that is inside. After its cancel it may be so for a moment: its thread is not stopped. */
    private static final class Entry {

        final AtomicBoolean cancelled;

        Entry(AtomicBoolean cancelled) {
            this.cancelled = cancelled;
        }
    }

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
                .flatMap(connection -> round(locks, connection).repeat(ROUNDS - 1), OWNERS)
                .count()
                .doFinally(signal -> over.set(true));
        Mono<Integer> others = locks.withAdvisoryLock(LockKey.of(161), exclusive(new AtomicBoolean()))
                .delayElement(Duration.ofMillis(1))
                .repeat(() -> !over.get())
                .then(Mono.just(1));
        long rounds = NestingClients.get(Mono.zip(owners, others, (count, one) -> count));

        assertThat(rounds).isEqualTo((long) OWNERS * ROUNDS);
        assertThat(server.count("select count(*) from ambient_storm")).isEqualTo(rounds);
        assertThat(overlaps).hasValue(0);
        LOG.info("{} rounds, {} not cancelled", rounds, done.get());
        assertThat(done.get()).isBetween((int) rounds / 100, (int) (rounds - rounds / 100));
    }

    /** Each transaction asks once, whatever comes of it writes a row, and commits. */
    private Mono<Integer> round(DefaultAdvisoryLocks locks, PostgresqlConnection connection) {
        return Mono.defer(() -> {
            OwnedTransaction transaction = OwnedTransaction.notBegun(connection);
            long micros = ThreadLocalRandom.current().nextInt(8_000);
            AtomicBoolean cancelled = new AtomicBoolean();
            Mono<?> cancel = (micros < 100 ? Mono.just(1L) : Mono.delay(Duration.ofNanos(micros * 1_000), canceller))
                    .doOnNext(now -> cancelled.set(true));
            return Sessions.send(connection, "begin")
                    .then(transaction
                            .around(call(locks, exclusive(cancelled)))
                            .doOnNext(value -> done.incrementAndGet())
                            .takeUntilOther(cancel))
                    .then(Sessions.send(connection, "insert into ambient_storm values (1)"))
                    .then(Mono.fromRunnable(transaction::completes))
                    .then(connection.commitTransaction())
                    .thenReturn(1);
        });
    }

    private static Mono<Integer> call(DefaultAdvisoryLocks locks, Mono<Integer> exclusive) {
        LockKey hot = LockKey.of(161);
        LockKey other = LockKey.of(200 + ThreadLocalRandom.current().nextInt(20));
        return switch (ThreadLocalRandom.current().nextInt(6)) {
            case 0 -> locks.withAdvisoryLock(hot, exclusive);
            case 1 -> locks.exclusive(hot, other).polling().guard(exclusive);
            case 2 -> locks.exclusive(hot).skipIfBusy().guard(exclusive);
            case 3 ->
                Flux.range(0, 3)
                        .flatMap(i -> locks.withAdvisoryLock(hot, exclusive))
                        .reduce(Integer::sum);
            case 4 ->
                locks.exclusive(other)
                        .guard(hold -> NestingClients.one(hold.connection(), "select pg_sleep(0.001)")
                                .thenReturn(1));
            default -> locks.withAdvisoryLock(hot, locks.withAdvisoryLock(other, exclusive));
        };
    }

    private Mono<Integer> exclusive(AtomicBoolean cancelled) {
        return Mono.defer(() -> {
            Entry own = new Entry(cancelled);
            inside.add(own);
            if (inside.stream().anyMatch(other -> other != own && !other.cancelled.get())) {
                overlaps.incrementAndGet();
            }
            // before the end is told: by doFinally it would be after it, when others may be inside rightly
            return Mono.just(1).doOnTerminate(() -> inside.remove(own)).doOnCancel(() -> inside.remove(own));
        });
    }
}
