package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.execute;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Through a PgBouncer in transaction mode: what works there, and what harms none of its other clients. */
@SuppressWarnings("NullAway.Init")
class PoolerIT {

    private static final LockKey A = LockKey.of(7_001);
    private static final LockKey B = LockKey.of(7_002);
    private static final int POOL_SIZE = 6;

    private static TestServer server;
    private static PgBouncer pooler;

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @BeforeAll
    static void start() {
        server = TestServer.own(18, Map.of());
        if (PgBouncer.isInstalled()) {
            pooler = PgBouncer.transactionMode(server, POOL_SIZE);
        }
    }

    /** Each test by itself: a class that is skipped as a whole counts as no test at all. */
    @BeforeEach
    void isInstalled() {
        PgBouncer.assumeInstalled();
    }

    @AfterAll
    static void stop() {
        if (pooler != null) {
            pooler.close();
        }
        server.close();
    }

    private DefaultAdvisoryLocks open() {
        return clients.open(pooler.connectionFactory(), builder -> {});
    }

    private static SelfCheck look(AdvisoryLocks locks) {
        return Objects.requireNonNull(locks.selfCheck().block(PATIENCE));
    }

    private static int holder(LockKey key) {
        return (int) server.count(
                "select sum(pid) from pg_locks where locktype = 'advisory' and granted and objid = " + key.value());
    }

    @Test
    void selfCheck_findsTransactionPooling_howeverBusyThePoolerIs() {
        DefaultAdvisoryLocks locks = open();
        assertPooled(look(locks));
        try (Busy busy = new Busy(server, pooler, 2 * POOL_SIZE)) {
            for (int i = 0; i < 20; i++) {
                assertPooled(look(locks));
            }
            assertThat(busy.transactions()).isPositive();
        }
    }

    @Test
    void poolerWithOneBackend_isRefused_withTheReason() {
        try (PgBouncer narrow = PgBouncer.transactionMode(server, 1)) {
            DefaultAdvisoryLocks locks =
                    clients.open(narrow.connectionFactory(), builder -> builder.connectTimeout(Duration.ofSeconds(1)));
            assertThatThrownBy(() -> look(locks))
                    .isInstanceOf(LockServerException.class)
                    .hasMessageContaining("single connection");
            assertThatThrownBy(() -> acquire(locks.exclusive(A)))
                    .isInstanceOf(LockServerException.class)
                    .hasMessageContaining("single connection");
            locks.close().block(PATIENCE);
        }
    }

    private static void assertPooled(SelfCheck found) {
        assertThat(found.transactionPooling()).isTrue();
        assertThat(found.excludes()).as("%s", found).isTrue();
        assertThat(found.isReliable()).isTrue();
        assertThat(found.refusedSettings()).isEmpty();
        assertThat(found.problems()).hasSize(1);
        assertThat(found.toString()).contains("behind a transaction-mode pooler", "session scope does not");
    }

    @Test
    void sessionMode_isTreatedAsDirect() {
        try (PgBouncer session = PgBouncer.sessionMode(server, POOL_SIZE)) {
            DefaultAdvisoryLocks locks = clients.open(session.connectionFactory(), builder -> {});
            assertThat(look(locks).problems()).isEmpty();
            HeldLock hold = acquire(locks.exclusive(A));
            assertThat(PoolerSettings.changed(hold)).contains("tcp_user_timeout=13000");
            release(hold);
            locks.close().block(PATIENCE);
        }
    }

    @Test
    void holdsExclude_betweenClients() {
        List<DefaultAdvisoryLocks> both = List.of(open(), open());
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger cycles = new AtomicInteger();
        Mono<Integer> work = Mono.defer(() -> {
                    assertThat(inside.incrementAndGet()).isOne();
                    return Mono.delay(Duration.ofMillis(2));
                })
                .map(tick -> {
                    assertThat(inside.decrementAndGet()).isZero();
                    return cycles.incrementAndGet();
                });
        Flux.range(0, 100)
                .flatMap(i -> both.get(i % 2).withAdvisoryLock(A, work), 100)
                .blockLast(PATIENCE);
        assertThat(cycles).hasValue(100);

        HeldLock hold = acquire(both.get(0).exclusive(A));
        assertThatThrownBy(() -> acquire(both.get(1).exclusive(A).noWait()))
                .isInstanceOf(LockNotAvailableException.class);
        assertThatThrownBy(() -> acquire(both.get(1).exclusive(A).waitAtMost(Duration.ofMillis(200))))
                .isInstanceOf(LockTimeoutException.class);
        release(hold);
    }

    @Test
    void waits_areServed_andACancelLeavesNothing() {
        DefaultAdvisoryLocks first = open();
        DefaultAdvisoryLocks second = open();
        try (Sessions sessions = new Sessions(server)) {
            HeldLock hold = acquire(first.exclusive(A));
            for (int i = 0; i < 20; i++) {
                Disposable wait = second.withAdvisoryLock(A, Mono.just(1)).subscribe();
                sessions.awaitWaiting(1);
                wait.dispose();
                sessions.awaitWaiting(0);
                Await.until("connection back", () -> second.connections().acquired() == 0);
            }
            assertThat(sessions.held()).isOne();
            CompletableFuture<Integer> next =
                    second.withAdvisoryLock(A, Mono.just(2)).toFuture();
            sessions.awaitWaiting(1);
            release(hold);
            assertThat(next).succeedsWithin(PATIENCE).isEqualTo(2);
        }
    }

    @Test
    void backendPid_isThatWhichHoldsTheLocks_ofEachHold() {
        DefaultAdvisoryLocks locks = open();
        for (int round = 0; round < 10; round++) {
            List<LockKey> keys =
                    IntStream.range(0, 4).mapToObj(i -> LockKey.of(7_100 + i)).toList();
            List<HeldLock> holds = Objects.requireNonNull(Flux.fromIterable(keys)
                    .flatMap(key -> key.value() % 2 == 0
                            ? locks.exclusive(key).acquire()
                            : locks.exclusive(key).noWait().acquire())
                    .collectList()
                    .block(PATIENCE));
            assertThat(holds)
                    .hasSize(4)
                    .allSatisfy(hold -> assertThat(holder(hold.keys().get(0))).isEqualTo(hold.backendPid()));
            Flux.fromIterable(holds).flatMap(HeldLock::release).blockLast(PATIENCE);
        }
    }

    @Test
    void nestedKey_isTakenOnTheSameBackend_andSqlCommitsWithTheLock() {
        server.execute("drop table if exists pooled", "create table pooled (id int)");
        DefaultAdvisoryLocks locks = open();
        Mono<Integer> work = locks.exclusive(A)
                .guard((HeldLock outer) -> execute(outer, "insert into pooled values (1)")
                        .then(locks.exclusive(B)
                                .guard((HeldLock inner) -> Mono.fromCallable(() -> {
                                            assertThat(inner.backendPid()).isEqualTo(outer.backendPid());
                                            return 1;
                                        })
                                        .publishOn(reactor.core.scheduler.Schedulers.boundedElastic())
                                        .doOnNext(one -> assertThat(List.of(holder(A), holder(B)))
                                                .containsOnly(outer.backendPid())))));
        assertThat(work.block(PATIENCE)).isEqualTo(1);
        assertThat(server.count("select count(*) from pooled")).isOne();

        Mono<Integer> failing = locks.exclusive(A)
                .guard((HeldLock hold) -> execute(hold, "insert into pooled values (2)")
                        .then(Mono.error(new IllegalStateException("of the work"))));
        assertThatThrownBy(() -> failing.block(PATIENCE)).hasMessage("of the work");
        HeldLock given = acquire(locks.exclusive(A));
        execute(given, "insert into pooled values (3)").block(PATIENCE);
        release(given);
        HeldLock kept = acquire(locks.exclusive(A));
        execute(kept, "insert into pooled values (4)").block(PATIENCE);
        kept.commit().block(PATIENCE);
        assertThat(server.count("select sum(id) from pooled")).isEqualTo(5);
    }

    @Test
    void backendThatIsTerminated_isALoss() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        DefaultAdvisoryLocks locks = open();
        for (int i = 0; i < 5; i++) {
            HeldLock hold = acquire(locks.exclusive(A));
            CompletableFuture<Void> lost = hold.lost().toFuture();
            long start = System.nanoTime();
            server.execute("select pg_terminate_backend(" + hold.backendPid() + ")");
            assertThat(lost).failsWithin(PATIENCE).withThrowableThat().withCauseInstanceOf(LockLostException.class);
            assertThat(TestClients.since(start)).isLessThan(Duration.ofSeconds(1));
            release(hold);
        }
        assertThat(locks.withAdvisoryLock(A, Mono.just(1)).block(PATIENCE)).isEqualTo(1);
    }

    @Test
    void settings_areChangedForNobodyElse() {
        DefaultAdvisoryLocks locks = open();
        DefaultAdvisoryLocks direct = clients.open(server);
        try (Busy busy = new Busy(server, pooler, 3)) {
            Flux.range(0, 100)
                    .flatMap(
                            i -> locks.exclusive(LockKey.of(7_200 + i % 10))
                                    .waitAtMost(PATIENCE)
                                    .guard((HeldLock hold) ->
                                            execute(hold, "select 1").thenReturn(1)),
                            20)
                    .blockLast(PATIENCE);
            HeldLock hold = acquire(locks.exclusive(A));
            assertThat(PoolerSettings.changed(hold)).isEmpty();
            release(hold);
            HeldLock own = acquire(direct.exclusive(A));
            assertThat(PoolerSettings.changed(own)).contains("tcp_user_timeout=13000", "application_name=r2lock");
            release(own);
            assertThat(busy.transactions()).isPositive();
        }
        assertThat(PoolerSettings.changedOnAll(server, pooler, POOL_SIZE))
                .hasSize(POOL_SIZE)
                .containsOnly("");
    }

    @Test
    void longHold_isNotCalledLost_whileOthersAreBusy() {
        DefaultAdvisoryLocks locks = open();
        DefaultAdvisoryLocks other = open();
        try (Busy busy = new Busy(server, pooler, 3 * POOL_SIZE)) {
            CompletableFuture<Long> cycles = Flux.range(0, 100_000)
                    .concatMap(i -> other.withAdvisoryLock(B, Mono.just(i)))
                    .take(Duration.ofSeconds(6))
                    .count()
                    .toFuture();
            Mono<Integer> work = Mono.delay(Duration.ofMillis(6_500)).thenReturn(1);
            assertThat(locks.withAdvisoryLock(A, work).block(PATIENCE)).isEqualTo(1);
            assertThat(cycles)
                    .succeedsWithin(PATIENCE)
                    .satisfies(count -> assertThat(count).isPositive());
            assertThat(busy.transactions()).isPositive();
        }
    }

    @Test
    void hold_isNotCalledLost_whileThePoolerHasNoBackendForTheHeartbeat() {
        DefaultAdvisoryLocks locks = clients.open(
                pooler.connectionFactory(),
                builder -> builder.heartbeat(Duration.ofMillis(100)).heartbeatDeadline(Duration.ofMillis(300)));
        Mono<Integer> work = Mono.delay(Duration.ofSeconds(2)).thenReturn(1);
        assertThat(Flux.range(0, POOL_SIZE)
                        .flatMap(i -> locks.withAdvisoryLock(LockKey.of(7_300 + i), work), POOL_SIZE)
                        .count()
                        .block(PATIENCE))
                .isEqualTo(POOL_SIZE);
    }
}
