package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Thousands of holds on a few connections: what the heartbeat costs, and what the loss of one connection takes with it. */
class SharedConnectionsIT {

    private static final Logger LOG = LoggerFactory.getLogger(SharedConnectionsIT.class);

    private static final int HOLDS = 5_000;
    private static final int CONNECTIONS = 4;
    private static final int BLOCKED = 8;
    private static final Duration PERIOD = Duration.ofMillis(500);

    private final TestServer server = TestServer.newest();
    private final Queue<LockKey> told = new ConcurrentLinkedQueue<>();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @BeforeEach
    void lossesAreLogged() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
    }

    /** One hold, or the work of one: every second is guarded. */
    private static final class Held {

        private final CompletableFuture<HeldLock> granted = new CompletableFuture<>();
        private final CompletableFuture<Void> workCancelled = new CompletableFuture<>();
        private final CompletableFuture<Void> lost;
        private final CompletableFuture<Void> ended;

        Held(LockRequest request, boolean guarded) {
            if (guarded) {
                ended = request.guard((HeldLock hold) -> Mono.<Void>never()
                                .doOnSubscribe(subscription -> granted.complete(hold))
                                .doOnCancel(() -> workCancelled.complete(null)))
                        .toFuture();
            } else {
                request.acquire().subscribe(granted::complete, granted::completeExceptionally);
                ended = granted.thenCompose(hold -> hold.lost().toFuture());
                workCancelled.complete(null);
            }
            lost = granted.thenCompose(hold -> hold.lost().toFuture());
        }

        HeldLock hold() {
            return granted.join();
        }

        boolean isOn(int pid) {
            return hold().backendPid() == pid;
        }

        void assertTold() {
            assertThat(lost).failsWithin(PATIENCE).withThrowableThat().withCauseInstanceOf(LockLostException.class);
            assertThat(ended).failsWithin(PATIENCE).withThrowableThat().withCauseInstanceOf(LockLostException.class);
            assertThat(workCancelled).succeedsWithin(PATIENCE);
        }
    }

    private DefaultAdvisoryLocks client(TestServer at, String name) {
        return clients.open(
                at,
                builder -> builder.sessionConnections(CONNECTIONS)
                        .heartbeat(PERIOD)
                        .applicationName(name)
                        .listener(new LockListener() {
                            @Override
                            public void lost(List<LockKey> keys, LockMode mode, Duration age, String why) {
                                told.addAll(keys);
                            }
                        }));
    }

    private static List<Held> hold(DefaultAdvisoryLocks locks, int count) {
        List<Held> all = IntStream.range(0, count)
                .mapToObj(i -> new Held(locks.exclusive(LockKey.of(42_000 + i)).inSession(), i % 2 == 0))
                .toList();
        all.forEach(held -> assertThat(held.granted).succeedsWithin(PATIENCE));
        return all;
    }

    private static void release(List<Held> all) {
        // the cancel of a guard ends its hold, and the work
        all.forEach(held -> held.ended.cancel(false));
        Flux.fromIterable(all).flatMap(held -> held.hold().release(), HOLDS).blockLast(PATIENCE);
    }

    private static Set<Integer> pids(List<Held> all) {
        return all.stream().map(held -> held.hold().backendPid()).collect(Collectors.toCollection(TreeSet::new));
    }

    /** In milliseconds on the server, sorted. */
    private List<Double> executionTimes(Set<Integer> pids) {
        List<Double> millis = new ArrayList<>();
        String settings = LockSql.heartbeat(new TreeSet<>(pids));
        String sql = settings.substring(settings.indexOf("SELECT"));
        for (int i = 0; i < 11; i++) {
            Map<String, ?> plan = server.query("explain (analyze, summary, timing off, format text) " + sql).stream()
                    .filter(row -> row.toString().contains("Execution Time"))
                    .findFirst()
                    .orElseThrow();
            millis.add(Double.valueOf(plan.toString().replaceAll(".*Execution Time: ([0-9.]+) ms.*", "$1")));
        }
        millis.sort(null);
        return millis;
    }

    @Test
    void heartbeatOfManyHolds_isOneStatementAPeriod_andCheap() {
        DefaultAdvisoryLocks locks = client(server, "r2lock-shared");
        List<Held> all = hold(locks, HOLDS);
        Set<Integer> pids = pids(all);
        assertThat(pids).hasSize(CONNECTIONS);

        Set<String> statements = new TreeSet<>();
        long start = System.nanoTime();
        Await.value(
                () -> server
                        .query("select query_start || ' ' || pid as seen from pg_stat_activity"
                                + " where application_name = 'r2lock-shared heartbeat' and query like '%xact_start%'")
                        .stream()
                        .map(row -> String.valueOf(row.get("seen")))
                        .filter(statements::add)
                        .count(),
                count -> false,
                Duration.ofSeconds(3));
        long periods = TestClients.since(start).dividedBy(PERIOD);
        assertThat(statements).hasSizeBetween(2, (int) periods + 2);

        List<Double> millis = executionTimes(pids);
        LOG.info(
                "{} holds on {} backends: {} heartbeats in {} periods, {} ms each on the server (from {} to {})",
                HOLDS,
                pids.size(),
                statements.size(),
                periods,
                millis.get(5),
                millis.get(0),
                millis.get(10));
        assertThat(millis.get(5)).isLessThan(50);
        release(all);
        assertThat(told).isEmpty();
    }

    @Test
    void oneBackendTerminated_tellsExactlyItsHolds_andIsReplaced() {
        DefaultAdvisoryLocks locks = client(server, "r2lock-shared");
        List<Held> all = hold(locks, HOLDS);
        int pid = all.get(0).hold().backendPid();
        List<Held> gone = all.stream().filter(held -> held.isOn(pid)).toList();
        List<Held> left = all.stream().filter(held -> !held.isOn(pid)).toList();
        assertThat(gone).hasSizeBetween(HOLDS / CONNECTIONS / 2, HOLDS / CONNECTIONS * 2);
        server.execute("select pg_terminate_backend(" + pid + ")");
        gone.forEach(Held::assertTold);
        Await.until("all told", () -> told.size() == gone.size());
        assertThat(told)
                .containsExactlyInAnyOrderElementsOf(
                        gone.stream().map(held -> held.hold().keys().get(0)).toList());
        assertThat(left.stream().filter(held -> held.lost.isDone()).count()).isZero();
        assertThat(left.stream().filter(held -> held.ended.isDone()).count()).isZero();
        assertThat(locks.sessions().held()).isEqualTo(left.size());
        assertThat(server.count("select count(*) from pg_locks where locktype = 'advisory' and granted"))
                .isEqualTo(left.size());

        List<HeldLock> again = gone.stream()
                .limit(100)
                .map(held -> acquire(locks.exclusive(held.hold().keys().get(0)).inSession()))
                .toList();
        assertThat(again)
                .extracting(HeldLock::backendPid)
                .doesNotContain(pid)
                .containsOnly(again.get(0).backendPid());
        again.forEach(TestClients::release);
        release(left);
        assertThat(left).allMatch(held -> held.workCancelled.isDone());
    }

    @Test
    void silence_isALossOfAllHolds() {
        try (TcpProxy proxy = TcpProxy.to(server).start()) {
            DefaultAdvisoryLocks locks = clients.open(
                    new io.r2dbc.postgresql.PostgresqlConnectionFactory(server.configuration()
                            .host(proxy.host())
                            .port(proxy.port())
                            .build()),
                    builder -> builder.sessionConnections(CONNECTIONS)
                            .heartbeat(Duration.ofMillis(200))
                            .heartbeatDeadline(Duration.ofSeconds(1)));
            List<Held> all = hold(locks, 200);
            assertThat(pids(all)).hasSize(CONNECTIONS);
            long start = System.nanoTime();
            proxy.stall();
            all.forEach(Held::assertTold);
            LOG.info(
                    "A silent network was noticed after {} ms",
                    TestClients.since(start).toMillis());
            proxy.resume();
            TestClients.release(acquire(locks.exclusive(LockKey.of(42_000)).inSession()));
        }
    }

    @Test
    void workThatBlocks_keepsNobodyElseFromBeingTold() throws InterruptedException {
        DefaultAdvisoryLocks locks = clients.open(server);
        List<Held> all = hold(locks, 1_000);
        // so that who is told later queues behind who is told now
        all.forEach(held -> held.hold().lost().subscribe(nothing -> {}, lost -> LockSupport.parkNanos(100_000)));
        CountDownLatch goOn = new CountDownLatch(1);
        List<CountDownLatch> blocked = new ArrayList<>();
        for (int i = 0; i < BLOCKED; i++) {
            CountDownLatch blocks = new CountDownLatch(1);
            blocked.add(blocks);
            HeldLock hold = acquire(locks.exclusive(LockKey.of(41_900 + i)).inSession());
            hold.lost().subscribe(nothing -> {}, lost -> {
                blocks.countDown();
                awaitQuietly(goOn);
            });
        }
        server.execute("select pg_terminate_backend(" + all.get(0).hold().backendPid() + ")");
        try {
            for (CountDownLatch blocks : blocked) {
                assertThat(blocks.await(PATIENCE.toSeconds(), TimeUnit.SECONDS)).isTrue();
            }
            all.forEach(Held::assertTold);
        } finally {
            goOn.countDown();
        }
    }

    private static void awaitQuietly(CountDownLatch latch) {
        try {
            latch.await(60, TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
