package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.free;
import static io.r2lock.TestClients.holdElsewhere;
import static io.r2lock.TestClients.release;
import static io.r2lock.TestClients.since;
import static io.r2lock.TestClients.warm;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.pool.ConnectionPool;
import io.r2dbc.pool.ConnectionPoolConfiguration;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Connection;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.Disposable;
import reactor.core.Disposables;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** Many callers and few connections: order, and nobody starves anybody. */
class QueueIT {

    private static final LockKey HOT = LockKey.of(3_001);
    private static final long FIRST_BUSY = 3_100;
    private static final String OUR_WAITS = "select count(*) from pg_stat_activity where application_name = 'r2lock'"
            + " and wait_event_type = 'Lock' and wait_event = 'advisory'";

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @AfterEach
    void close() {
        sessions.close();
    }

    private DefaultAdvisoryLocks client(int maxConnections) {
        return clients.open(server, builder -> builder.maxConnections(maxConnections));
    }

    /** Callers on these keys, which another process holds, so that they wait on the server or poll. */
    private Disposable.Composite waitOnServer(DefaultAdvisoryLocks locks, int keys, List<Long> granted) {
        Disposable.Composite all = Disposables.composite();
        for (long key = FIRST_BUSY; key < FIRST_BUSY + keys; key++) {
            long one = key;
            all.add(locks.withAdvisoryLock(LockKey.of(one), Mono.fromRunnable(() -> granted.add(one)))
                    .subscribe());
        }
        return all;
    }

    private PostgresqlConnection busyElsewhere(int keys) {
        return holdElsewhere(
                sessions,
                IntStream.range(0, keys).mapToLong(i -> FIRST_BUSY + i).toArray());
    }

    @Test
    void thousandCallersOfOneKey_areServedInOrder_byOneBackendAtATime() {
        DefaultAdvisoryLocks locks = client(2);
        PostgresqlConnection other = holdElsewhere(sessions, 3_001);
        List<Integer> order = Collections.synchronizedList(new ArrayList<>());
        CompletableFuture<Long> all = Flux.range(0, 1_000)
                .flatMap(i -> locks.withAdvisoryLock(HOT, Mono.fromRunnable(() -> order.add(i))), 1_000)
                .count()
                .toFuture();
        sessions.awaitWaiting(1);
        assertThat(locks.connections().acquired()).isEqualTo(1);
        free(other, 3_001);

        PostgresqlConnection observer = sessions.open();
        Await.value(
                () -> {
                    assertThat(Sessions.ask(observer, OUR_WAITS).get(0)).isIn("0", "1");
                    return all.isDone();
                },
                done -> done,
                PATIENCE);
        assertThat(all).succeedsWithin(PATIENCE).isEqualTo(0L);
        assertThat(order).isEqualTo(IntStream.range(0, 1_000).boxed().toList());
    }

    @Test
    void workThatBorrowsFromTheApplicationsPool_neverStarves() {
        ConnectionPool pool = new ConnectionPool(ConnectionPoolConfiguration.builder(server.connectionFactory())
                .maxSize(5)
                .build());
        DefaultAdvisoryLocks locks = clients.open(pool, builder -> {});
        Mono<Integer> work = Mono.usingWhen(
                pool.create(),
                connection -> Flux.from(connection.createStatement("select 1").execute())
                        .flatMap(result -> result.map(row -> 1))
                        .single(),
                Connection::close);
        Long done = Flux.range(0, 1_000)
                .flatMap(i -> locks.withAdvisoryLock(LockKey.of(3_200 + i % 50), work), 1_000)
                .count()
                .block(PATIENCE);
        assertThat(done).isEqualTo(1_000);
        pool.disposeLater().block(PATIENCE);
    }

    @Test
    void holdersThatAskForANewTransaction_areRefused_whenNoConnectionIsLeft() {
        DefaultAdvisoryLocks locks = client(10);
        Sinks.Empty<Void> allHold = Sinks.empty();
        List<Throwable> refused = Collections.synchronizedList(new ArrayList<>());
        Mono<Integer> inner = locks.exclusive(HOT)
                .requireNew()
                .guard(Mono.just(1))
                .doOnError(refused::add)
                .onErrorReturn(0);
        CompletableFuture<Long> all = Flux.range(0, 10)
                .flatMap(
                        i -> locks.withAdvisoryLock(
                                LockKey.of(3_300 + i), allHold.asMono().then(inner)),
                        10)
                .count()
                .toFuture();
        Await.until("ten holders", () -> sessions.held() == 10);
        allHold.tryEmitEmpty().orThrow();

        assertThat(all).succeedsWithin(PATIENCE).isEqualTo(10L);
        assertThat(refused)
                .isNotEmpty()
                .allSatisfy(error -> assertThat(error)
                        .isInstanceOf(LockNotAvailableException.class)
                        .hasMessageContaining("connection")
                        .hasMessageContaining("10 (maxConnections)"));
    }

    @Test
    void noWait_onAFreeKey_succeedsAtOnce_thoughAllConnectionsButOneWait() {
        DefaultAdvisoryLocks locks = client(10);
        warm(locks, 10);
        PostgresqlConnection other = busyElsewhere(10);
        List<Long> granted = Collections.synchronizedList(new ArrayList<>());
        Disposable waiting = waitOnServer(locks, 10, granted);
        sessions.awaitWaiting(9);

        for (int i = 0; i < 200; i++) {
            long start = System.nanoTime();
            assertThat(locks.tryWithAdvisoryLock(HOT, Mono.just(1)).block(PATIENCE))
                    .isEqualTo(1);
            assertThat(since(start)).isLessThan(Duration.ofMillis(200));
        }
        assertThat(sessions.waiting()).isEqualTo(9);
        assertThat(granted).isEmpty();

        for (long key = FIRST_BUSY; key < FIRST_BUSY + 10; key++) {
            free(other, key);
        }
        Await.until("all ten granted", () -> granted.size() == 10);
        assertThat(waiting.isDisposed()).isFalse();
    }

    @Test
    void noWait_isNotRefused_becausePollersComeAndGo() {
        DefaultAdvisoryLocks locks = client(3);
        warm(locks, 3);
        busyElsewhere(8);
        Disposable waiting = waitOnServer(locks, 3, new ArrayList<>());
        sessions.awaitWaiting(2);
        LockRequest impatient = locks.exclusive(LockKey.of(FIRST_BUSY + 4)).waitAtMost(Duration.ofMillis(2));
        Disposable coming = Flux.range(0, 4)
                .flatMap(i -> Mono.defer(() -> impatient.guard(Mono.just(1)).onErrorReturn(0))
                        .repeat())
                .subscribe();

        for (int i = 0; i < 500; i++) {
            assertThat(locks.tryWithAdvisoryLock(HOT, Mono.just(1)).block(PATIENCE))
                    .isEqualTo(1);
        }
        coming.dispose();
        waiting.dispose();
    }

    @Test
    void poller_getsItsLock_whenItsKeyIsFreed() {
        DefaultAdvisoryLocks locks = client(3);
        PostgresqlConnection other = busyElsewhere(4);
        List<Long> granted = Collections.synchronizedList(new ArrayList<>());
        Disposable waiting = waitOnServer(locks, 4, granted);
        sessions.awaitWaiting(2);
        List<Long> waited =
                server
                        .query("select objid::bigint as key from pg_locks where locktype = 'advisory' and not granted")
                        .stream()
                        .map(row -> (Long) row.get("key"))
                        .toList();
        long polled = IntStream.range(0, 4)
                .mapToLong(i -> FIRST_BUSY + i)
                .filter(key -> !waited.contains(key))
                .findFirst()
                .orElseThrow();
        free(other, polled);
        Await.until("the poller's grant", () -> granted.equals(List.of(polled)));
        waiting.dispose();
    }

    @Test
    void onlyConnection_isNotSpentOnAWait() {
        DefaultAdvisoryLocks locks = client(1);
        PostgresqlConnection other = holdElsewhere(sessions, 3_001);
        CompletableFuture<Integer> waiting =
                locks.withAdvisoryLock(HOT, Mono.just(1)).toFuture();
        for (int i = 0; i < 20; i++) {
            assertThat(locks.withAdvisoryLock(LockKey.of(3_002), Mono.just(2)).block(PATIENCE))
                    .isEqualTo(2);
            assertThat(sessions.waiting()).isZero();
        }
        free(other, 3_001);
        assertThat(waiting).succeedsWithin(PATIENCE).isEqualTo(1);
    }

    @Test
    void sharedWaiters_useOneBackend_andAreAllServed() {
        DefaultAdvisoryLocks locks = client(10);
        PostgresqlConnection other = holdElsewhere(sessions, 3_001);
        CompletableFuture<Long> all = Flux.range(0, 200)
                .flatMap(i -> locks.shared(HOT).guard(Mono.just(i)), 200)
                .count()
                .toFuture();
        sessions.awaitWaiting(1);
        for (int i = 0; i < 20; i++) {
            assertThat(sessions.waiting()).isEqualTo(1);
            assertThat(locks.connections().acquired()).isEqualTo(1);
        }
        free(other, 3_001);
        assertThat(all).succeedsWithin(PATIENCE).isEqualTo(200L);
    }

    @Test
    void sharedWaiter_doesNotOvertakeALocalExclusiveOne() {
        DefaultAdvisoryLocks locks = client(10);
        HeldLock reader = acquire(locks.shared(HOT));
        List<String> order = Collections.synchronizedList(new ArrayList<>());
        CompletableFuture<Void> writer = locks.withAdvisoryLock(HOT, Mono.<Void>fromRunnable(() -> order.add("writer")))
                .toFuture();
        CompletableFuture<Void> late = locks.shared(HOT)
                .guard(Mono.<Void>fromRunnable(() -> order.add("late reader")))
                .toFuture();
        assertThatThrownBy(() -> acquire(locks.shared(HOT).noWait())).isInstanceOf(LockNotAvailableException.class);
        assertThat(order).isEmpty();
        release(reader);
        assertThat(CompletableFuture.allOf(writer, late)).succeedsWithin(PATIENCE);
        assertThat(order).containsExactly("writer", "late reader");
    }
}
