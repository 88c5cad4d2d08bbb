package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.execute;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.BiConsumer;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;
import reactor.netty.resources.LoopResources;

/** User code that blocks event loops of the driver: nothing is lost by it, and what is lost is told all the same. */
class BlockedLoopIT {

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    /** A blocked loop and a long statement are awaited side by side: that takes its time. */
    @Test
    void longSqlAndBlockedEventLoops_loseNothing() {
        LoopResources one = LoopResources.create("one-loop", 1, true);
        LoopResources two = LoopResources.create("two-loops", 2, true);
        LoopResources atOnce = LoopResources.create("blocked-at-once", 1, true);
        try {
            DefaultAdvisoryLocks sql = clients.open(server);
            CompletableFuture<Void> query = sql.exclusive(LockKey.of(13_100))
                    .guard((HeldLock hold) -> execute(hold, "select pg_sleep(20)"))
                    .toFuture();
            List<CompletableFuture<?>> calls = new ArrayList<>();
            for (LoopResources loops : List.of(one, two)) {
                DefaultAdvisoryLocks locks = clients.open(
                        new PostgresqlConnectionFactory(
                                server.configuration().loopResources(loops).build()),
                        builder -> {});
                calls.addAll(holdWhileALoopIsBlocked(locks, loops == one ? 13_200 : 13_300));
            }
            calls.add(holdThatBlocksItsOnlyLoopAtOnce(atOnce));
            calls.add(query);
            assertThat(Flux.fromIterable(calls)
                            .concatMap(Mono::fromFuture)
                            .then()
                            .toFuture())
                    .succeedsWithin(Duration.ofSeconds(40));
        } finally {
            one.dispose();
            two.dispose();
            atOnce.dispose();
        }
    }

    /** Before there is a connection for heartbeats, and for longer than silence is put up with. */
    private CompletableFuture<?> holdThatBlocksItsOnlyLoopAtOnce(LoopResources loops) {
        DefaultAdvisoryLocks locks = clients.open(
                new PostgresqlConnectionFactory(
                        server.configuration().loopResources(loops).build()),
                builder -> {});
        AtomicReference<String> loop = new AtomicReference<>("");
        Object busy = monitorTakenFor(Duration.ofSeconds(8));
        return locks.exclusive(LockKey.of(13_400))
                .guard(Mono.fromRunnable(() -> {
                    synchronized (busy) {
                        loop.set(Thread.currentThread().getName());
                    }
                }))
                .doOnSuccess(done -> assertThat(loop.get()).contains("blocked-at-once"))
                .toFuture();
    }

    /** A monitor, which BlockHound does not see. */
    private static Object monitorTakenFor(Duration time) {
        Object busy = new Object();
        CountDownLatch taken = new CountDownLatch(1);
        new Thread(() -> {
                    synchronized (busy) {
                        taken.countDown();
                        Await.value(() -> false, done -> done, time);
                    }
                })
                .start();
        Await.until("the monitor", () -> taken.getCount() == 0);
        return busy;
    }

    /** Four holds of 12 s; the work of one blocks its event loop for 10 s of them. */
    private static List<CompletableFuture<?>> holdWhileALoopIsBlocked(DefaultAdvisoryLocks locks, int firstKey) {
        Object busy = monitorTakenFor(Duration.ofSeconds(10));
        AtomicLong blocked = new AtomicLong();
        List<CompletableFuture<?>> calls = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            boolean blocks = i == 3;
            calls.add(locks.exclusive(LockKey.of(firstKey + i))
                    .guard((HeldLock hold) -> Mono.delay(Duration.ofSeconds(12)).doOnSubscribe(subscription -> {
                        long start = System.nanoTime();
                        if (blocks) {
                            synchronized (busy) {
                                blocked.set(System.nanoTime() - start);
                            }
                        }
                    }))
                    .doOnSuccess(done -> assertThat(blocked).hasValueGreaterThan(8_000_000_000L))
                    .toFuture());
        }
        return calls;
    }

    /** Silence says nothing for the heartbeat's own loop, and all for the others. */
    @Test
    void silentServer_isALossForHoldsOfOtherLoops() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        whileTheHeartbeatsLoopIsBlocked((proxy, others) -> {
            proxy.stall();
            long start = System.nanoTime();
            others.forEach(hold -> assertThat(hold.lost().toFuture()).failsWithin(PATIENCE));
            assertThat(TestClients.since(start)).isLessThan(Duration.ofMillis(1_500));
        });
    }

    @Test
    void blockedLoopOfTheHeartbeat_losesNothing() {
        whileTheHeartbeatsLoopIsBlocked((proxy, others) -> {
            Mono<Void> anyLost =
                    Flux.merge(others.stream().map(HeldLock::lost).toList()).then();
            assertThat(anyLost.timeout(Duration.ofSeconds(3), Mono.error(new IllegalStateException("none")))
                            .toFuture())
                    .failsWithin(PATIENCE)
                    .withThrowableThat()
                    .withMessageContaining("none");
        });
    }

    /** Tells the holds of the other loops. Three loops: with an even number the driver may use half of them only. */
    private void whileTheHeartbeatsLoopIsBlocked(BiConsumer<TcpProxy, List<TransactionHold>> meanwhile) {
        LoopResources loops = LoopResources.create("three-loops", 3, true);
        try (TcpProxy proxy = TcpProxy.to(server).start()) {
            Queue<PostgresqlConnection> heartbeats = new ConcurrentLinkedQueue<>();
            DefaultAdvisoryLocks locks = client(
                    new PostgresqlConnectionFactory(server.configuration()
                            .host(proxy.host())
                            .port(proxy.port())
                            .loopResources(loops)
                            .build()),
                    heartbeats);
            List<TransactionHold> holds = new ArrayList<>();
            while (heartbeats.isEmpty() || onOtherLoops(holds, heartbeats).size() < 2) {
                holds.add((TransactionHold) acquire(locks.exclusive(LockKey.of(13_600 + holds.size()))));
                Await.until("the heartbeat", () -> !heartbeats.isEmpty());
            }
            List<TransactionHold> others = onOtherLoops(holds, heartbeats);
            Object busy = new Object();
            synchronized (busy) {
                loopOf(heartbeats.element()).schedule(() -> {
                    synchronized (busy) {
                        assertThat(busy).isNotNull();
                    }
                });
                meanwhile.accept(proxy, others);
            }
            proxy.resume();
            holds.forEach(TestClients::release);
            locks.close().block(PATIENCE);
        } finally {
            loops.dispose();
        }
    }

    private static ClientOptions options() {
        return new ClientOptions(
                Schedulers.parallel(),
                10,
                1,
                1,
                64,
                null,
                Duration.ofSeconds(3),
                Duration.ofSeconds(1),
                Duration.ZERO,
                Integer.MAX_VALUE,
                new ConnectionSettings("r2lock", Map.of()),
                Duration.ofMillis(200),
                Duration.ofSeconds(1),
                null,
                new Warnings(Schedulers.parallel()),
                null,
                new LockListener() {},
                null);
    }

    private static DefaultAdvisoryLocks client(
            PostgresqlConnectionFactory factory, Queue<PostgresqlConnection> heartbeats) {
        ClientOptions options = options();
        ConnectionOpener opener = new ConnectionOpener(factory, options);
        ConnectionSource watched = new ConnectionSource() {
            @Override
            public Mono<LockConnection> open(int generation) {
                return opener.open(generation);
            }

            @Override
            public Mono<PostgresqlConnection> openForHeartbeat(Scheduler from) {
                return opener.openForHeartbeat(from).doOnNext(heartbeats::add);
            }

            @Override
            public Mono<SessionWire> openForSession() {
                return opener.openForSession();
            }

            @Override
            public LockCapacityException.@Nullable Settings lockTable() {
                return opener.lockTable();
            }

            @Override
            public Mono<SelfCheck> selfCheck(LockKey probe) {
                return opener.selfCheck(probe);
            }

            @Override
            public Mono<ServerLocks> locks() {
                return opener.locks();
            }

            @Override
            public void close() {
                opener.close();
            }
        };
        return new DefaultAdvisoryLocks(watched, options);
    }

    private static List<TransactionHold> onOtherLoops(
            List<TransactionHold> holds, Queue<PostgresqlConnection> heartbeats) {
        String blocked = threadOf(heartbeats.element());
        return holds.stream()
                .filter(hold -> !threadOf(hold.lockConnection().wire()).equals(blocked))
                .toList();
    }

    /** Each connection has a scheduler of its own, whichever loop that leads to. */
    private static String threadOf(PostgresqlConnection wire) {
        return Objects.requireNonNull(
                Mono.fromSupplier(() -> Thread.currentThread().getName())
                        .subscribeOn(loopOf(wire))
                        .block(PATIENCE));
    }

    private static Scheduler loopOf(PostgresqlConnection wire) {
        return Objects.requireNonNull(LockConnection.loopOf(wire));
    }
}
