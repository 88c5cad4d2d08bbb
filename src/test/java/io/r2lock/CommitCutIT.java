package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.execute;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;
import reactor.core.publisher.Mono;

/** A connection that is cut around COMMIT, at a random byte: the caller is never told more than is true. */
class CommitCutIT {

    private static final Logger LOG = LoggerFactory.getLogger(CommitCutIT.class);
    private static final LockKey A = LockKey.of(10_101);
    private static final int CALLS = 100;
    private static final long SEED = System.nanoTime();

    private enum Told {
        VALUE,
        FAILED,
        UNKNOWN_ROW,
        UNKNOWN_NO_ROW
    }

    private final TestServer server = TestServer.newest();
    private final TcpProxy proxy = TcpProxy.to(server).start();

    @RegisterExtension
    @Order(2)
    // the driver does not release what it has just encoded for a connection that is being reset
    final NoResidue residue = NoResidue.on(server).butBuffers();

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @BeforeEach
    void prepare() {
        server.execute("drop table if exists commit_cut", "create table commit_cut (id int primary key)");
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
    }

    @AfterEach
    void close() {
        proxy.close();
    }

    /** Its bytes are counted, and cut, from the INSERT on. */
    private Mono<Integer> call(DefaultAdvisoryLocks locks, int id, Runnable whenHeld) {
        return locks.exclusive(A)
                .guard((HeldLock hold) -> Mono.fromRunnable(whenHeld)
                        .then(execute(hold, "insert into commit_cut values (" + id + ")"))
                        .thenReturn(id));
    }

    /** From the INSERT to the last answer of the cleaning. */
    private long bytesOfAnEnd(DefaultAdvisoryLocks locks) {
        long least = Long.MAX_VALUE;
        for (int i = 0; i < 5; i++) {
            long[] before = new long[1];
            assertThat(call(locks, -1 - i, () -> before[0] = proxy.forwarded()).block(PATIENCE))
                    .isEqualTo(-1 - i);
            long[] seen = {-1};
            Await.until("the cleaning's answer", () -> seen[0] == (seen[0] = proxy.forwarded()));
            least = Math.min(least, seen[0] - before[0]);
        }
        return least;
    }

    @Test
    @Timeout(60)
    void everyCallEnds_andNobodyIsToldMoreThanIsTrue() {
        DefaultAdvisoryLocks locks = clients.open(
                new PostgresqlConnectionFactory(server.configuration()
                        .host(proxy.host())
                        .port(proxy.port())
                        .build()),
                builder -> builder.maxConnections(1));
        long bytes = bytesOfAnEnd(locks);
        Random random = new Random(SEED);
        List<Object> outcomes = new ArrayList<>();
        List<Long> cuts = new ArrayList<>();
        long firstValue = bytes;
        for (int i = 0; i < CALLS; i++) {
            long at = cutOf(i, bytes, firstValue, random);
            cuts.add(at);
            outcomes.add(outcome(call(locks, i, () -> proxy.cutAfter(at))));
            if (outcomes.get(i) instanceof Integer) {
                firstValue = Math.min(firstValue, at);
            }
            Await.until("the cut of call " + i + " at " + at, proxy::hasCut);
        }
        assertThat(call(locks, CALLS, () -> {}).block(PATIENCE)).isEqualTo(CALLS);
        residue.check();

        Map<Told, Integer> counts = judge(outcomes, cuts);
        LOG.info("cut around COMMIT, within {} bytes, seed {}: {}", bytes, SEED, counts);
        assertThat(counts).allSatisfy((told, count) -> assertThat(count).isGreaterThanOrEqualTo(3));
        assertThat(counts).hasSize(Told.values().length);
    }

    /** Some in the INSERT, half of them anywhere, the others where COMMIT is answered. */
    private static long cutOf(int call, long bytes, long firstValue, Random random) {
        if (call < CALLS / 10) {
            return random.nextLong(80);
        }
        return call < CALLS * 6 / 10 ? random.nextLong(bytes) : firstValue - 90 + random.nextLong(100);
    }

    private static Object outcome(Mono<Integer> call) {
        try {
            // far within COMMIT_DEADLINE_SECONDS: a reset is told at once
            return Objects.requireNonNull(
                    call.toFuture().orTimeout(10, TimeUnit.SECONDS).join());
        } catch (CompletionException failed) {
            return Objects.requireNonNull(failed.getCause());
        }
    }

    private Map<Told, Integer> judge(List<Object> outcomes, List<Long> cuts) {
        Set<Object> rows = new HashSet<>();
        server.query("select id from commit_cut").forEach(row -> rows.add(row.get("id")));
        Map<Told, Integer> counts = new EnumMap<>(Told.class);
        for (int i = 0; i < outcomes.size(); i++) {
            Object outcome = outcomes.get(i);
            boolean row = rows.contains(i);
            String what = "call " + i + ", cut at " + cuts.get(i) + ", seed " + SEED + ": " + outcome;
            Told told;
            if (outcome instanceof Integer) {
                assertThat(row).as(what).isTrue();
                told = Told.VALUE;
            } else if (outcome instanceof CommitOutcomeUnknownException) {
                told = row ? Told.UNKNOWN_ROW : Told.UNKNOWN_NO_ROW;
            } else {
                assertThat(outcome).as(what).isInstanceOf(LockLostException.class);
                assertThat(row).as(what).isFalse();
                told = Told.FAILED;
            }
            counts.merge(told, 1, Integer::sum);
        }
        return counts;
    }
}
